"""Parses what the management API lists into the states that the rules compare. Raises InvalidResponse for what no
RabbitMQ would list.
"""

from collections.abc import Mapping
from typing import Any

from caravan_operator.backends.http_responses import (
    get_boolean,
    get_optional_integer,
    get_optional_object,
    get_optional_text,
    get_text,
)
from caravan_operator.reconcile.rabbitmq_binding import Binding
from caravan_operator.reconcile.rabbitmq_exchange import ExchangeState
from caravan_operator.reconcile.rabbitmq_policy import Policy
from caravan_operator.reconcile.rabbitmq_queue import QueueState


def parse_queue_state(item: Mapping[str, Any], policy: Policy | None) -> QueueState:
    return QueueState(
        type=get_optional_text(item, "type") or "classic",
        durable=get_boolean(item, "durable"),
        auto_delete=get_boolean(item, "auto_delete"),
        arguments=get_optional_object(item, "arguments"),
        effective_policy=get_optional_text(item, "policy"),
        policy=policy,
        messages=get_optional_integer(item, "messages"),
        consumers=get_optional_integer(item, "consumers"),
    )


def parse_exchange_state(item: Mapping[str, Any]) -> ExchangeState:
    flags = {name: get_boolean(item, name) for name in ("durable", "auto_delete", "internal")}
    return ExchangeState({"type": get_text(item, "type"), **flags, "arguments": get_optional_object(item, "arguments")})


def parse_policy_state(item: Mapping[str, Any]) -> Policy:
    priority = get_optional_integer(item, "priority") or 0
    vhost, name, pattern, apply_to = (get_text(item, field) for field in ("vhost", "name", "pattern", "apply-to"))
    return Policy(vhost, name, pattern, apply_to, priority, get_optional_object(item, "definition"))


def parse_binding_state(item: Mapping[str, Any]) -> tuple[Binding, str]:
    """A binding, and the server's name for it."""
    vhost, source, destination, kind, key = (
        get_text(item, field) for field in ("vhost", "source", "destination", "destination_type", "routing_key")
    )
    return Binding(vhost, source, destination, kind, key, get_optional_object(item, "arguments")), get_text(
        item, "properties_key"
    )
