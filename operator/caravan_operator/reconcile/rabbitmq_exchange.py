"""Rules of RabbitMQExchange: it is immutable once created."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile.diff import Diff, LastApplied, Problem, Removal
from caravan_operator.reconcile.rabbitmq_call import IGNORE_NOT_FOUND, Call, build_api_path
from caravan_operator.resources.names import build_identity, check_addressable, truncate_external_id
from caravan_operator.resources.resource import Resource
from caravan_operator.status.reasons import Reason


@dataclass(frozen=True, slots=True)
class Exchange:
    vhost: str
    name: str
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        return build_identity("exchange", self.vhost, self.name)

    @property
    def dependencies(self) -> tuple[str, ...]:
        return ()

    @property
    def body(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "durable": self.durable,
            "auto_delete": self.auto_delete,
            "internal": self.internal,
            "arguments": dict(self.arguments),
        }


@dataclass(frozen=True, slots=True)
class ExchangeState:
    body: Mapping[str, Any]
    """In the form of `Exchange.body`."""
    bound: bool | None = None
    """Whether anything is bound to it; None: not requested."""


def parse_exchange(resource: Resource) -> Exchange:
    """Raises UnusableSpec."""
    spec = resource.spec
    check_addressable(spec, "name", "vhost")
    delayed_type = (spec.get("arguments") or {}).get("delayedType")
    return Exchange(
        vhost=spec.get("vhost", "/"),
        name=spec.get("name") or resource.key.name,
        type=spec.get("type", "direct"),
        durable=spec.get("durable", True),
        auto_delete=spec.get("autoDelete", False),
        internal=spec.get("internal", False),
        arguments={"x-delayed-type": delayed_type} if delayed_type else {},
    )


def compute_diff(desired: Exchange, state: ExchangeState | None, last_applied: LastApplied) -> Diff:
    status_fields = {"externalId": truncate_external_id(desired.identity)}
    if state is None:
        call = Call(
            "PUT",
            build_api_path("exchanges", desired.vhost, desired.name),
            f"create {desired.type} exchange {desired.name}",
            desired.body,
            desired.identity,
        )
        return Diff((call,), status_fields=status_fields)
    differences = [
        f"{name} is {state.body.get(name)}, not {value}"
        for name, value in desired.body.items()
        if state.body.get(name) != value
    ]
    if not differences:
        return Diff(status_fields=status_fields)
    message = (
        f"{'; '.join(differences)}: an exchange can't be changed; delete it, and it is made anew with its bindings"
    )
    return Diff(problems=(Problem(Reason.IMMUTABLE_DRIFT, message),), status_fields=status_fields)


def plan_removal(desired: Exchange, state: ExchangeState | None) -> Removal:
    if state is None:
        return Removal(())
    call = Call(
        "DELETE",
        build_api_path("exchanges", desired.vhost, desired.name),
        f"delete exchange {desired.name}",
        ignored_statuses=IGNORE_NOT_FOUND,
    )
    return Removal((call,), in_use_reason=None if state.bound is False else f"exchange {desired.name} has bindings")
