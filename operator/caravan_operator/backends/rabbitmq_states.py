"""What the management API lists, as the states that the rules compare. Raises BadAnswer for what no RabbitMQ would list."""

from collections.abc import Mapping
from typing import Any

from caravan_operator.backends.answers import flag, optional_number, optional_table, optional_text, text
from caravan_operator.reconcile.rabbitmq_binding import Binding
from caravan_operator.reconcile.rabbitmq_exchange import ExchangeState
from caravan_operator.reconcile.rabbitmq_policy import Policy
from caravan_operator.reconcile.rabbitmq_queue import QueueState


def queue_state(item: Mapping[str, Any], policy: Policy | None) -> QueueState:
    return QueueState(
        type=optional_text(item, "type") or "classic",
        durable=flag(item, "durable"),
        auto_delete=flag(item, "auto_delete"),
        arguments=optional_table(item, "arguments"),
        effective_policy=optional_text(item, "policy"),
        policy=policy,
        messages=optional_number(item, "messages"),
        consumers=optional_number(item, "consumers"),
    )


def exchange_state(item: Mapping[str, Any]) -> ExchangeState:
    flags = {name: flag(item, name) for name in ("durable", "auto_delete", "internal")}
    return ExchangeState({"type": text(item, "type"), **flags, "arguments": optional_table(item, "arguments")})


def policy_state(item: Mapping[str, Any]) -> Policy:
    priority = optional_number(item, "priority") or 0
    vhost, name, pattern, apply_to = (text(item, field) for field in ("vhost", "name", "pattern", "apply-to"))
    return Policy(vhost, name, pattern, apply_to, priority, optional_table(item, "definition"))


def binding_state(item: Mapping[str, Any]) -> tuple[Binding, str]:
    """A binding, and the server's name for it."""
    vhost, source, destination, kind, key = (
        text(item, field) for field in ("vhost", "source", "destination", "destination_type", "routing_key")
    )
    return Binding(vhost, source, destination, kind, key, optional_table(item, "arguments")), text(item, "properties_key")
