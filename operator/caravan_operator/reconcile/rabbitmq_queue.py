"""RabbitMQQueue: the queue itself is immutable; its limits are one policy that applies to exactly this queue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile import rabbitmq_policy
from caravan_operator.reconcile.findings import Findings, Problem, Remembered, Removal
from caravan_operator.reconcile.rabbitmq_call import GONE, Call, path
from caravan_operator.reconcile.rabbitmq_policy import Policy
from caravan_operator.resources.names import addressable, external_id, identity
from caravan_operator.resources.rabbitmq import LIMITS_POLICY, LIMITS_PRIORITY
from caravan_operator.resources.resource import Resource
from caravan_operator.status.reasons import Reason

_ARGUMENTS = {
    "singleActiveConsumer": "x-single-active-consumer",
    "maxPriority": "x-max-priority",
    "initialGroupSize": "x-quorum-initial-group-size",
}
_SPECIAL = frozenset(r"\.^$|()[]{}*+?-")


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
        return identity("queue", self.vhost, self.name)

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    @property
    def policy_name(self) -> str:
        return LIMITS_POLICY + self.name

    @property
    def policy(self) -> Policy | None:
        """The policy that carries the limits; None without limits."""
        if not self.limits:
            return None
        exactly = "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in self.name)
        return Policy(self.vhost, self.policy_name, f"^{exactly}$", "queues", LIMITS_PRIORITY, self.limits)

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
    """None: nobody asked."""

    @property
    def idle(self) -> bool:
        return self.messages == 0 and self.consumers == 0


def queue(resource: Resource) -> Queue:
    """Raises UnusableSpec."""
    spec = resource.spec
    addressable(spec, "name", "vhost")
    return Queue(
        vhost=spec.get("vhost", "/"),
        name=spec.get("name") or resource.key.name,
        type=spec.get("type", "quorum"),
        durable=spec.get("durable", True),
        auto_delete=spec.get("autoDelete", False),
        arguments={_ARGUMENTS[name]: value for name, value in (spec.get("arguments") or {}).items()},
        limits=rabbitmq_policy.definition(spec.get("limits") or {}),
        recreate_if_empty=spec.get("onImmutableDrift") == "RecreateIfEmpty",
    )


def plan(wanted: Queue, state: QueueState | None, remembered: Remembered) -> Findings:
    limits = _limits(wanted, state.policy if state else None)
    create = Call(
        "PUT", path("queues", wanted.vhost, wanted.name), f"create {wanted.type} queue {wanted.name}", wanted.body, creates=wanted.identity
    )
    facts: dict[str, Any] = {
        "externalId": external_id(wanted.identity),
        "policy": wanted.policy_name if wanted.limits else None,
        "policyConflict": None,
    }
    if state is None:  # the limits first: they hold for the first message
        return Findings((*limits, create), facts=facts)
    different = differences(wanted, state)
    if different and wanted.recreate_if_empty and state.idle:
        return Findings((*limits, _delete(wanted, only_idle=state.type == "classic"), create), facts=facts)
    problems = []
    if different:
        way = (
            "it isn't empty and idle, or RecreateIfEmpty isn't set"
            if wanted.recreate_if_empty
            else "set onImmutableDrift: RecreateIfEmpty, or make it anew"
        )
        problems.append(Problem(Reason.IMMUTABLE_DRIFT, f"{'; '.join(different)}: a queue can't be changed; {way}"))
    if wanted.limits and not limits and state.effective_policy not in (None, wanted.policy_name):
        facts["policyConflict"] = state.effective_policy
        problems.append(
            Problem(Reason.POLICY_CONFLICT, f"policy {state.effective_policy} applies instead of {wanted.policy_name}: lower its priority")
        )
    return Findings(limits, tuple(problems), facts=facts)


def removal(wanted: Queue, state: QueueState | None) -> Removal:
    policy = (rabbitmq_policy.drop(wanted.vhost, wanted.policy_name),) if wanted.limits else ()
    if state is None:
        return Removal(policy)
    in_use = None if state.idle else f"queue {wanted.name} has {_count(state.messages)} messages and {_count(state.consumers)} consumers"
    return Removal((_delete(wanted), *policy), in_use)


def _count(number: int | None) -> str:
    return "an unknown number of" if number is None else str(number)


def _delete(wanted: Queue, *, only_idle: bool = False) -> Call:
    """`only_idle`: let the broker check once more; it does for classic queues only."""
    check = "?if-empty=true&if-unused=true" if only_idle else ""
    return Call("DELETE", path("queues", wanted.vhost, wanted.name) + check, f"delete queue {wanted.name}", steps_over=GONE)


def _limits(wanted: Queue, state: Policy | None) -> tuple[Call, ...]:
    policy = wanted.policy
    if policy is None:
        return (rabbitmq_policy.drop(wanted.vhost, wanted.policy_name),) if state else ()
    if state is None:
        return (rabbitmq_policy.put(policy, f"create policy {policy.name}"),)
    return () if state == policy else (rabbitmq_policy.put(policy, rabbitmq_policy.changed(policy, state)),)


def differences(wanted: Queue, state: QueueState) -> list[str]:
    """What a declaration would be refused for. An argument that a policy could carry beats the policy, so it counts too."""
    pairs = [
        ("type", wanted.type, state.type),
        ("durable", wanted.durable, state.durable),
        ("autoDelete", wanted.auto_delete, state.auto_delete),
    ]
    arguments = {name: value for name, value in state.arguments.items() if name != "x-queue-type"}
    pairs += [(name, wanted.arguments.get(name), arguments.get(name)) for name in sorted({*arguments, *wanted.arguments})]
    return [f"{name} is {found}, not {asked}" for name, asked, found in pairs if asked != found]
