"""RabbitMQExchange: immutable once made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile.findings import Findings, Problem, Remembered, Removal
from caravan_operator.reconcile.rabbitmq_call import GONE, Call, path
from caravan_operator.resources.names import addressable, external_id, identity
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
        return identity("exchange", self.vhost, self.name)

    @property
    def needs(self) -> tuple[str, ...]:
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
    """As `Exchange.body` says it."""
    bound: bool | None = None
    """Whether anything is bound to it; None: nobody asked."""


def exchange(resource: Resource) -> Exchange:
    """Raises UnusableSpec."""
    spec = resource.spec
    addressable(spec, "name", "vhost")
    delayed = (spec.get("arguments") or {}).get("delayedType")
    return Exchange(
        vhost=spec.get("vhost", "/"),
        name=spec.get("name") or resource.key.name,
        type=spec.get("type", "direct"),
        durable=spec.get("durable", True),
        auto_delete=spec.get("autoDelete", False),
        internal=spec.get("internal", False),
        arguments={"x-delayed-type": delayed} if delayed else {},
    )


def plan(wanted: Exchange, state: ExchangeState | None, remembered: Remembered) -> Findings:
    facts = {"externalId": external_id(wanted.identity)}
    if state is None:
        call = Call(
            "PUT",
            path("exchanges", wanted.vhost, wanted.name),
            f"create {wanted.type} exchange {wanted.name}",
            wanted.body,
            wanted.identity,
        )
        return Findings((call,), facts=facts)
    different = [f"{name} is {state.body.get(name)}, not {value}" for name, value in wanted.body.items() if state.body.get(name) != value]
    if not different:
        return Findings(facts=facts)
    message = f"{'; '.join(different)}: an exchange can't be changed; delete it, and it is made anew with its bindings"
    return Findings(problems=(Problem(Reason.IMMUTABLE_DRIFT, message),), facts=facts)


def removal(wanted: Exchange, state: ExchangeState | None) -> Removal:
    if state is None:
        return Removal(())
    call = Call("DELETE", path("exchanges", wanted.vhost, wanted.name), f"delete exchange {wanted.name}", steps_over=GONE)
    return Removal((call,), in_use=None if state.bound is False else f"exchange {wanted.name} has bindings")
