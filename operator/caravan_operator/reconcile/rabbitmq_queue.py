"""Rules of RabbitMQQueue: the queue itself is immutable; its limits are one policy that applies to this queue alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile import rabbitmq_policy
from caravan_operator.reconcile.diff import Diff, LastApplied, Problem, Removal
from caravan_operator.reconcile.rabbitmq_call import IGNORE_NOT_FOUND, Call, build_api_path
from caravan_operator.reconcile.rabbitmq_policy import Policy
from caravan_operator.resources.names import build_identity, check_addressable, truncate_external_id
from caravan_operator.resources.rabbitmq import LIMITS_POLICY, LIMITS_PRIORITY
from caravan_operator.resources.resource import Resource
from caravan_operator.status.reasons import Reason

_ARGUMENTS = {
    "singleActiveConsumer": "x-single-active-consumer",
    "maxPriority": "x-max-priority",
    "initialGroupSize": "x-quorum-initial-group-size",
}
_PATTERN_SYNTAX = frozenset(r"\.^$|()[]{}*+?-")


@dataclass(frozen=True, slots=True)
class Queue:
    vhost: str
    name: str
    type: str = "quorum"
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    recreate_if_empty: bool = False

    @property
    def identity(self) -> str:
        return build_identity("queue", self.vhost, self.name)

    @property
    def dependencies(self) -> tuple[str, ...]:
        return ()

    @property
    def policy_name(self) -> str:
        return LIMITS_POLICY + self.name

    @property
    def limits_policy(self) -> Policy | None:
        """The policy that carries the limits; None without limits."""
        if not self.limits:
            return None
        escaped_name = "".join(f"\\{letter}" if letter in _PATTERN_SYNTAX else letter for letter in self.name)
        return Policy(self.vhost, self.policy_name, f"^{escaped_name}$", "queues", LIMITS_PRIORITY, self.limits)

    @property
    def body(self) -> dict[str, Any]:
        arguments = {"x-queue-type": self.type} | dict(self.arguments)
        return {"durable": self.durable, "auto_delete": self.auto_delete, "arguments": arguments}


@dataclass(frozen=True, slots=True)
class QueueState:
    type: str
    durable: bool
    auto_delete: bool
    arguments: Mapping[str, Any]
    effective_policy: str | None = None
    policy: Policy | None = None
    """Our own policy as it is."""
    messages: int | None = None
    consumers: int | None = None
    """None: not requested."""

    @property
    def is_idle(self) -> bool:
        return self.messages == 0 and self.consumers == 0


def parse_queue(resource: Resource) -> Queue:
    """Raises UnusableSpec."""
    spec = resource.spec
    check_addressable(spec, "name", "vhost")
    return Queue(
        vhost=spec.get("vhost", "/"),
        name=spec.get("name") or resource.key.name,
        type=spec.get("type", "quorum"),
        durable=spec.get("durable", True),
        auto_delete=spec.get("autoDelete", False),
        arguments={_ARGUMENTS[name]: value for name, value in (spec.get("arguments") or {}).items()},
        limits=rabbitmq_policy.encode_definition(spec.get("limits") or {}),
        recreate_if_empty=spec.get("onImmutableDrift") == "RecreateIfEmpty",
    )


def compute_diff(desired: Queue, state: QueueState | None, last_applied: LastApplied) -> Diff:
    limits = _plan_limits(desired, state.policy if state else None)
    create = Call(
        "PUT",
        build_api_path("queues", desired.vhost, desired.name),
        f"create {desired.type} queue {desired.name}",
        desired.body,
        created_identity=desired.identity,
    )
    status_fields: dict[str, Any] = {
        "externalId": truncate_external_id(desired.identity),
        "policy": desired.policy_name if desired.limits else None,
        "policyConflict": None,
    }
    if state is None:  # the limits first: they hold for the first message
        return Diff((*limits, create), status_fields=status_fields)
    differences = list_differences(desired, state)
    if differences and desired.recreate_if_empty and state.is_idle:
        return Diff(
            (*limits, _build_delete_call(desired, only_if_idle=state.type == "classic"), create),
            status_fields=status_fields,
        )
    problems = []
    if differences:
        remedy = (
            "it isn't empty and idle, or RecreateIfEmpty isn't set"
            if desired.recreate_if_empty
            else "set onImmutableDrift: RecreateIfEmpty, or make it anew"
        )
        problems.append(
            Problem(Reason.IMMUTABLE_DRIFT, f"{'; '.join(differences)}: a queue can't be changed; {remedy}")
        )
    if desired.limits and not limits and state.effective_policy not in (None, desired.policy_name):
        status_fields["policyConflict"] = state.effective_policy
        problems.append(
            Problem(
                Reason.POLICY_CONFLICT,
                f"policy {state.effective_policy} applies instead of {desired.policy_name}: lower its priority",
            )
        )
    return Diff(limits, tuple(problems), status_fields=status_fields)


def plan_removal(desired: Queue, state: QueueState | None) -> Removal:
    policy = (rabbitmq_policy.build_delete_call(desired.vhost, desired.policy_name),) if desired.limits else ()
    if state is None:
        return Removal(policy)
    in_use_reason = (
        None
        if state.is_idle
        else f"queue {desired.name} has {_format_count(state.messages)} messages and {_format_count(state.consumers)} "
        "consumers"
    )
    return Removal((_build_delete_call(desired), *policy), in_use_reason)


def _format_count(number: int | None) -> str:
    return "an unknown number of" if number is None else str(number)


def _build_delete_call(desired: Queue, *, only_if_idle: bool = False) -> Call:
    """`only_if_idle`: let the broker check once more; it does for classic queues only."""
    query = "?if-empty=true&if-unused=true" if only_if_idle else ""
    return Call(
        "DELETE",
        build_api_path("queues", desired.vhost, desired.name) + query,
        f"delete queue {desired.name}",
        ignored_statuses=IGNORE_NOT_FOUND,
    )


def _plan_limits(desired: Queue, state: Policy | None) -> tuple[Call, ...]:
    policy = desired.limits_policy
    if policy is None:
        return (rabbitmq_policy.build_delete_call(desired.vhost, desired.policy_name),) if state else ()
    if state is None:
        return (rabbitmq_policy.build_put_call(policy, f"create policy {policy.name}"),)
    return (
        ()
        if state == policy
        else (rabbitmq_policy.build_put_call(policy, rabbitmq_policy.describe_changes(policy, state)),)
    )


def list_differences(desired: Queue, state: QueueState) -> list[str]:
    """What a declaration would be refused for. An argument that a policy could carry beats the policy, so it counts
    too.
    """
    pairs = [
        ("type", desired.type, state.type),
        ("durable", desired.durable, state.durable),
        ("autoDelete", desired.auto_delete, state.auto_delete),
    ]
    arguments = {name: value for name, value in state.arguments.items() if name != "x-queue-type"}
    pairs += [
        (name, desired.arguments.get(name), arguments.get(name)) for name in sorted({*arguments, *desired.arguments})
    ]
    return [f"{name} is {actual}, not {expected}" for name, expected, actual in pairs if expected != actual]
