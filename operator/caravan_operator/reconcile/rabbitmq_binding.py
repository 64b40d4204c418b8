"""Rules of RabbitMQBinding: it waits for both ends, and is created again when one of them was."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile.diff import Diff, LastApplied, Problem, Removal
from caravan_operator.reconcile.rabbitmq_call import IGNORE_NOT_FOUND, Call, build_api_path
from caravan_operator.resources.names import build_identity, check_addressable, truncate_external_id
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
        return build_identity("binding", self.vhost, *ends, self.routing_key, arguments)

    @property
    def dependencies(self) -> tuple[str, ...]:
        """Identities of both ends."""
        return (
            build_identity("exchange", self.vhost, self.source),
            build_identity(self.destination_type, self.vhost, self.destination),
        )

    @property
    def path_segments(self) -> tuple[str, ...]:
        return ("bindings", self.vhost, "e", self.source, self.destination_type[0], self.destination)

    @property
    def summary(self) -> str:
        return f"from {self.source} to {self.destination_type} {self.destination} with {self.routing_key or 'no key'}"


@dataclass(frozen=True, slots=True)
class BindingState:
    missing: tuple[str, ...] = ()
    """Ends that aren't there."""
    properties_key: str | None = None
    """The server's name of the binding; None: it isn't there."""


def parse_binding(resource: Resource) -> Binding:
    """Raises UnusableSpec."""
    spec = resource.spec
    check_addressable(spec, "source", "destination", "vhost", "routingKey")
    return Binding(
        vhost=spec.get("vhost", "/"),
        source=spec["source"],
        destination=spec["destination"],
        destination_type=spec.get("destinationType", "queue"),
        routing_key=spec.get("routingKey", ""),
        arguments=spec.get("arguments") or {},
    )


def compute_diff(desired: Binding, state: BindingState | None, last_applied: LastApplied) -> Diff:
    status_fields = {"externalId": truncate_external_id(desired.identity)}
    if state is not None and state.missing:
        return Diff(
            missing_dependency=Problem(Reason.MISSING, f"waits for {' and '.join(state.missing)}"),
            status_fields=status_fields,
        )
    if state is not None and state.properties_key is not None:
        return Diff(status_fields=status_fields)
    body = {"routing_key": desired.routing_key, "arguments": dict(desired.arguments)}
    return Diff(
        (Call("POST", build_api_path(*desired.path_segments), f"bind {desired.summary}", body),),
        status_fields=status_fields,
    )


def plan_removal(desired: Binding, state: BindingState | None) -> Removal:
    if state is None or state.properties_key is None:
        return Removal(())
    return Removal(
        (
            Call(
                "DELETE",
                build_api_path(*desired.path_segments, state.properties_key),
                f"unbind {desired.summary}",
                ignored_statuses=IGNORE_NOT_FOUND,
            ),
        )
    )
