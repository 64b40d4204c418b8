"""Pure rules: from a resource and the broker's state to actions. Nothing here does I/O or reads a clock."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from caravan_operator.reconcile import kafka_topic, rabbitmq_binding, rabbitmq_exchange, rabbitmq_policy, rabbitmq_queue
from caravan_operator.reconcile.diff import Diff, LastApplied, Removal
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Resource


class DesiredObject(Protocol):
    """An object as a spec describes it."""

    @property
    def identity(self) -> str:
        """Its name on the broker with its kind: two resources with the same identity are in conflict."""

    @property
    def dependencies(self) -> tuple[str, ...]:
        """Identities of the objects that must be there first."""


@dataclass(frozen=True)
class Rules:
    """The rules of a kind."""

    parse_spec: Callable[[Resource], DesiredObject]
    compute_diff: Callable[[Any, Any, LastApplied], Diff]
    plan_removal: Callable[[Any, Any], Removal]


RULES: dict[str, Rules] = {
    "KafkaTopic": Rules(kafka_topic.parse_topic, kafka_topic.compute_diff, kafka_topic.plan_removal),
    "RabbitMQExchange": Rules(
        rabbitmq_exchange.parse_exchange, rabbitmq_exchange.compute_diff, rabbitmq_exchange.plan_removal
    ),
    "RabbitMQQueue": Rules(rabbitmq_queue.parse_queue, rabbitmq_queue.compute_diff, rabbitmq_queue.plan_removal),
    "RabbitMQBinding": Rules(
        rabbitmq_binding.parse_binding, rabbitmq_binding.compute_diff, rabbitmq_binding.plan_removal
    ),
    "RabbitMQPolicy": Rules(rabbitmq_policy.parse_policy, rabbitmq_policy.compute_diff, rabbitmq_policy.plan_removal),
}


def parse_desired(resource: Resource) -> DesiredObject:
    """The object that a spec describes. Raises UnusableSpec, whatever the spec holds: one that can't be read must not
    stop others.
    """
    try:
        return RULES[resource.key.kind].parse_spec(resource)
    except UnusableSpec:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UnusableSpec(
            "spec", f"can't be read ({type(error).__name__}): apply it again, the schema says what is wrong"
        ) from error


__all__ = ["RULES", "DesiredObject", "Diff", "LastApplied", "Removal", "Rules", "parse_desired"]
