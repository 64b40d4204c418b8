"""What a line of the log is about: the messages that are being handled, or the entity that a request's path names.

Both are references, and are turned into fields only when a line is written.
"""

import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

KEYS_MAX = 100
"""Keys of a batch that a line names; a batch has no more, unless its reader says so."""
_UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_ENTITY_PATH = re.compile(rf"/v1/([a-z-]+?)s/({_UUID})(?:/|$)")
_SAFE_KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z:._-]{0,63}")
_ENTITY_ID = re.compile(_UUID)


class _Delivery(Protocol):
    @property
    def id(self) -> UUID: ...
    @property
    def key(self) -> str: ...


@dataclass(slots=True)
class HandledMessages:
    """`key_name`: what the key of their channel is, such as `order_id`. `current`: the one of them whose turn it is,
    where each has one.
    """

    key_name: str
    deliveries: Sequence[_Delivery]
    current: _Delivery | None = None


handled_messages: ContextVar[HandledMessages | None] = ContextVar("handled_messages", default=None)
request_scope: ContextVar[Mapping[str, Any] | None] = ContextVar("request_scope", default=None)
"""ASGI's scope of the request that is being answered."""


def describe_context() -> dict[str, Any]:
    """The fields that every line of the moment has."""
    handled = handled_messages.get()
    if handled is not None:
        return _describe_messages(handled)
    scope = request_scope.get()
    return {} if scope is None else describe_scope(scope)


def _describe_messages(handled: HandledMessages) -> dict[str, Any]:
    delivery = handled.deliveries[0] if len(handled.deliveries) == 1 else handled.current
    if delivery is not None:
        return {handled.key_name: delivery.key, "message_id": str(delivery.id)}
    keys = list(dict.fromkeys(delivery.key for delivery in handled.deliveries))
    return {f"{handled.key_name}s": keys[:KEYS_MAX]}


def summarize_messages(key_name: str, deliveries: Sequence[_Delivery]) -> dict[str, str]:
    """The same as one text, for all of a batch. What is no id, as a foreign producer may write, is left out."""
    keys = " ".join(key for key in dict.fromkeys(delivery.key for delivery in deliveries) if _SAFE_KEY.fullmatch(key))
    if len(deliveries) > 1:
        return {f"{key_name}s": keys}
    return {key_name: keys, "message_id": str(deliveries[0].id)}


def describe_scope(scope: Mapping[str, Any]) -> dict[str, str]:
    """Ids in the path, by the names that its route gives them. Other parameters may be anything, tokens among them."""
    parameters = scope.get("path_params") or {}
    found = {
        name: str(value)
        for name, value in parameters.items()
        if name.endswith("_id") and _ENTITY_ID.fullmatch(str(value))
    }
    return found or find_entity(str(scope.get("path", "")))


def find_entity(path: str) -> dict[str, str]:
    """`/v1/orders/0192...` is about the `order_id` 0192...; so is the Location of what was made."""
    match = _ENTITY_PATH.match(path)
    return {f"{match[1].replace('-', '_')}_id": match[2].lower()} if match else {}
