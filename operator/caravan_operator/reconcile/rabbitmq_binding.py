"""RabbitMQBinding: waits for both ends, and is made again when one of them was."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile.findings import Findings, Problem, Remembered, Removal
from caravan_operator.reconcile.rabbitmq_call import GONE, Call, path
from caravan_operator.resources.names import addressable, external_id, identity
from caravan_operator.resources.resource import Resource
from caravan_operator.status.reasons import Reason


@dataclass(frozen=True, slots=True)
class Binding:
    vhost: str
    source: str
    destination: str
    destination_type: str = "queue"
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        arguments = json.dumps(self.arguments, sort_keys=True) if self.arguments else ""
        ends = (self.source, self.destination_type, self.destination)
        return identity("binding", self.vhost, *ends, self.routing_key, arguments)

    @property
    def needs(self) -> tuple[str, ...]:
        """Identities of both ends."""
        return (identity("exchange", self.vhost, self.source), identity(self.destination_type, self.vhost, self.destination))

    @property
    def path(self) -> tuple[str, ...]:
        return ("bindings", self.vhost, "e", self.source, self.destination_type[0], self.destination)

    @property
    def line(self) -> str:
        return f"from {self.source} to {self.destination_type} {self.destination} with {self.routing_key or 'no key'}"


@dataclass(frozen=True, slots=True)
class BindingState:
    missing: tuple[str, ...] = ()
    """Ends that aren't there."""
    properties_key: str | None = None
    """The server's name of the binding; None: it isn't there."""


def binding(resource: Resource) -> Binding:
    """Raises UnusableSpec."""
    spec = resource.spec
    addressable(spec, "source", "destination", "vhost", "routingKey")
    return Binding(
        vhost=spec.get("vhost", "/"),
        source=spec["source"],
        destination=spec["destination"],
        destination_type=spec.get("destinationType", "queue"),
        routing_key=spec.get("routingKey", ""),
        arguments=spec.get("arguments") or {},
    )


def plan(wanted: Binding, state: BindingState | None, remembered: Remembered) -> Findings:
    facts = {"externalId": external_id(wanted.identity)}
    if state is not None and state.missing:
        return Findings(waiting=Problem(Reason.MISSING, f"waits for {' and '.join(state.missing)}"), facts=facts)
    if state is not None and state.properties_key is not None:
        return Findings(facts=facts)
    body = {"routing_key": wanted.routing_key, "arguments": dict(wanted.arguments)}
    return Findings((Call("POST", path(*wanted.path), f"bind {wanted.line}", body),), facts=facts)


def removal(wanted: Binding, state: BindingState | None) -> Removal:
    if state is None or state.properties_key is None:
        return Removal(())
    return Removal((Call("DELETE", path(*wanted.path, state.properties_key), f"unbind {wanted.line}", steps_over=GONE),))
