"""Rules of RabbitMQPolicy, and how settings are written in a policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caravan_operator.reconcile.diff import Diff, LastApplied, Removal
from caravan_operator.reconcile.durations import parse_milliseconds
from caravan_operator.reconcile.rabbitmq_call import IGNORE_NOT_FOUND, Call, build_api_path
from caravan_operator.resources.limits import DURATION_KEYS
from caravan_operator.resources.names import build_identity, check_addressable, truncate_external_id
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
        return build_identity("policy", self.vhost, self.name)

    @property
    def dependencies(self) -> tuple[str, ...]:
        return ()

    @property
    def body(self) -> dict[str, Any]:
        return {
            "pattern": self.pattern,
            "apply-to": self.apply_to,
            "priority": self.priority,
            "definition": dict(self.definition),
        }


def parse_policy(resource: Resource) -> Policy:
    """Raises UnusableSpec."""
    spec = resource.spec
    check_addressable(spec, "name", "vhost")
    return Policy(
        vhost=spec.get("vhost", "/"),
        name=spec.get("name") or resource.key.name,
        pattern=spec["pattern"],
        apply_to=spec.get("applyTo", "all"),
        priority=spec.get("priority", 0),
        definition=encode_definition(spec["definition"]),
    )


def encode_definition(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`messageTtl: 30s` as `message-ttl: 30000`, and `extra` as it is."""
    encoded = {
        _to_kebab_case(name): parse_milliseconds(value) if name in DURATION_KEYS else value
        for name, value in settings.items()
        if name != "extra"
    }
    return encoded | dict(settings.get("extra") or {})


def build_put_call(desired: Policy, summary: str) -> Call:
    return Call("PUT", build_api_path("policies", desired.vhost, desired.name), summary, desired.body)


def build_delete_call(vhost: str, name: str) -> Call:
    return Call(
        "DELETE", build_api_path("policies", vhost, name), f"delete policy {name}", ignored_statuses=IGNORE_NOT_FOUND
    )


def compute_diff(desired: Policy, state: Policy | None, last_applied: LastApplied) -> Diff:
    status_fields = {"externalId": truncate_external_id(desired.identity)}
    if state is None:
        return Diff((build_put_call(desired, f"create policy {desired.name}"),), status_fields=status_fields)
    return Diff(
        () if state == desired else (build_put_call(desired, describe_changes(desired, state)),),
        status_fields=status_fields,
    )


def describe_changes(desired: Policy, state: Policy) -> str:
    """The differences, in one line."""
    changes = [
        f"{name} from {getattr(state, name)} to {getattr(desired, name)}"
        for name in ("pattern", "apply_to", "priority")
        if getattr(state, name) != getattr(desired, name)
    ]
    for key in sorted({*desired.definition, *state.definition}):
        if state.definition.get(key) != desired.definition.get(key):
            changes.append(f"{key} from {state.definition.get(key)} to {desired.definition.get(key)}")
    return f"set in policy {desired.name}: {', '.join(changes)}"


def plan_removal(desired: Policy, state: Policy | None) -> Removal:
    return Removal((build_delete_call(desired.vhost, desired.name),) if state else ())


def _to_kebab_case(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
