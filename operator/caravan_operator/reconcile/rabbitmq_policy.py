"""RabbitMQPolicy, and how settings are written in a policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caravan_operator.reconcile.durations import milliseconds
from caravan_operator.reconcile.findings import Findings, Remembered, Removal
from caravan_operator.reconcile.rabbitmq_call import GONE, Call, path
from caravan_operator.resources.limits import DURATIONS
from caravan_operator.resources.names import addressable, external_id, identity
from caravan_operator.resources.resource import Resource


@dataclass(frozen=True, slots=True)
class Policy:
    vhost: str
    name: str
    pattern: str
    apply_to: str
    priority: int
    definition: Mapping[str, Any]

    @property
    def identity(self) -> str:
        return identity("policy", self.vhost, self.name)

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    @property
    def body(self) -> dict[str, Any]:
        return {"pattern": self.pattern, "apply-to": self.apply_to, "priority": self.priority, "definition": dict(self.definition)}


def policy(resource: Resource) -> Policy:
    """Raises UnusableSpec."""
    spec = resource.spec
    addressable(spec, "name", "vhost")
    return Policy(
        vhost=spec.get("vhost", "/"),
        name=spec.get("name") or resource.key.name,
        pattern=spec["pattern"],
        apply_to=spec.get("applyTo", "all"),
        priority=spec.get("priority", 0),
        definition=definition(spec["definition"]),
    )


def definition(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`messageTtl: 30s` as `message-ttl: 30000`, and `extra` as it is."""
    wire = {_dashed(name): milliseconds(value) if name in DURATIONS else value for name, value in settings.items() if name != "extra"}
    return wire | dict(settings.get("extra") or {})


def put(wanted: Policy, why: str) -> Call:
    return Call("PUT", path("policies", wanted.vhost, wanted.name), why, wanted.body)


def drop(vhost: str, name: str) -> Call:
    return Call("DELETE", path("policies", vhost, name), f"delete policy {name}", steps_over=GONE)


def plan(wanted: Policy, state: Policy | None, remembered: Remembered) -> Findings:
    facts = {"externalId": external_id(wanted.identity)}
    if state is None:
        return Findings((put(wanted, f"create policy {wanted.name}"),), facts=facts)
    return Findings(() if state == wanted else (put(wanted, changed(wanted, state)),), facts=facts)


def changed(wanted: Policy, state: Policy) -> str:
    """What differs, in a line."""
    parts = [
        f"{name} from {getattr(state, name)} to {getattr(wanted, name)}"
        for name in ("pattern", "apply_to", "priority")
        if getattr(state, name) != getattr(wanted, name)
    ]
    for key in sorted({*wanted.definition, *state.definition}):
        if state.definition.get(key) != wanted.definition.get(key):
            parts.append(f"{key} from {state.definition.get(key)} to {wanted.definition.get(key)}")
    return f"set in policy {wanted.name}: {', '.join(parts)}"


def removal(wanted: Policy, state: Policy | None) -> Removal:
    return Removal((drop(wanted.vhost, wanted.name),) if state else ())


def _dashed(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
