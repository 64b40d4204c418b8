"""Pure rules: from a resource and what the broker has, to actions. Nothing here does I/O or looks at a clock."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from caravan_operator.reconcile import kafka_topic, rabbitmq_binding, rabbitmq_exchange, rabbitmq_policy, rabbitmq_queue
from caravan_operator.reconcile.findings import Findings, Remembered, Removal
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Resource


class Wanted(Protocol):
    """An object as a spec wants it."""

    @property
    def identity(self) -> str:
        """Its name on the broker with its kind: two resources with the same identity are in conflict."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Identities of the objects that must be there first."""


@dataclass(frozen=True)
class Rules:
    """The pure half of a kind."""

    wanted: Callable[[Resource], Wanted]
    plan: Callable[[Any, Any, Remembered], Findings]
    removal: Callable[[Any, Any], Removal]


RULES: dict[str, Rules] = {
    "KafkaTopic": Rules(kafka_topic.topic, kafka_topic.plan, kafka_topic.removal),
    "RabbitMQExchange": Rules(rabbitmq_exchange.exchange, rabbitmq_exchange.plan, rabbitmq_exchange.removal),
    "RabbitMQQueue": Rules(rabbitmq_queue.queue, rabbitmq_queue.plan, rabbitmq_queue.removal),
    "RabbitMQBinding": Rules(rabbitmq_binding.binding, rabbitmq_binding.plan, rabbitmq_binding.removal),
    "RabbitMQPolicy": Rules(rabbitmq_policy.policy, rabbitmq_policy.plan, rabbitmq_policy.removal),
}


def read(resource: Resource) -> Wanted:
    """What a resource wants. Raises UnusableSpec, whatever its spec holds: one that can't be read must not be in the way of others."""
    try:
        return RULES[resource.key.kind].wanted(resource)
    except UnusableSpec:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UnusableSpec("spec", f"can't be read ({type(error).__name__}): apply it again, the schema says what is wrong") from error


__all__ = ["RULES", "Findings", "Remembered", "Removal", "Rules", "Wanted", "read"]
