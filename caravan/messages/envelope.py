"""Messages as JSON: the envelope with CloudEvents names, written by `encode_message` when a use case emits one and read
by `decode_message` when a consumer gets one.

`declarations.py` says what may travel on which channel.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, NamedTuple
from uuid import UUID

import orjson
from pydantic import ValidationError

from caravan.clock import as_id, format_rfc3339, new_id, parse_id
from caravan.fifo_cache import FifoCache
from caravan.messages.declarations import Channel, ChannelType, Exchange, M, M_co, Message, Queue, Topic

MAX_BYTES = 900_000
"""Largest encoded envelope. Kafka's default request limit is 1 MiB, and a message that can't be sent must fail where it
is emitted, not in the relay.
"""

_TRACEPARENT = b'"traceparent":"'
_TRACEPARENT_LENGTH = 55
_TRACESTATE = b'","tracestate":"'
_TRACESTATE_LENGTH = 57


class MessageTooLarge(Exception):
    """The encoded message is over MAX_BYTES."""


class MalformedMessage(Exception):
    """A message that can't be read: no JSON, no envelope, an unknown type, a newer version, or a body that breaks the
    schema.
    """


class OutgoingMessage(NamedTuple):
    """One encoded message on its way to a channel. `id` was made in the business transaction and never changes
    afterwards.
    """

    channel_type: ChannelType
    channel: str
    routing_key: str
    key: str
    id: UUID
    body: bytes

    @property
    def traceparent(self) -> str | None:
        """That of its envelope, found without reading all of it: it stands after the payload. What a foreign sender may
        have written there instead is for whoever uses it to notice.
        """
        start = self.body.rfind(_TRACEPARENT)
        if start < 0:
            return None
        start += len(_TRACEPARENT)
        return self.body[start : start + _TRACEPARENT_LENGTH].decode("latin-1")

    @property
    def tracestate(self) -> str | None:
        """Likewise: it stands right behind the traceparent."""
        start = self.body.rfind(_TRACEPARENT) + len(_TRACEPARENT) + _TRACEPARENT_LENGTH
        if not self.body.startswith(_TRACESTATE, start):
            return None
        start += len(_TRACESTATE)
        return self.body[start : start + _TRACESTATE_LENGTH].decode("latin-1")


class Delivery(NamedTuple, Generic[M_co]):
    """A message as a handler gets it: the payload and what the envelope says of it."""

    message: M_co
    id: UUID
    key: str
    time: datetime
    traceparent: str | None
    actor: str | None
    attempt: int = 1
    causation_id: UUID | None = None
    """Of the message whose handler sent this one. None, too, where a foreign sender names a cause that is no id."""
    tracestate: str | None = None
    """W3C's: the span in which it was made, where that is in another trace (`telemetry.find_origin`)."""


def encode_message(
    message: Message,
    channel: Channel,
    *,
    key: str,
    source: str,
    time: datetime,
    traceparent: str | None,
    actor: str | None,
    causation_id: str | None = None,
    message_id: UUID | None = None,
    tracestate: str | None = None,
) -> OutgoingMessage:
    """Envelope with CloudEvents names around the payload, as JSON. Raises TypeError for a message that the channel
    doesn't declare.
    """
    message_type = type(message)
    routing_key = ""
    channel_type: ChannelType
    match channel:
        case Topic(events=events):
            channel_type, is_declared = "topic", message_type in events
        case Queue(commands=commands):
            channel_type, is_declared = "queue", message_type in commands
        case Exchange(routes=routes):
            routing_key = next((pattern for pattern, event in routes.items() if event is message_type), "")
            channel_type, is_declared = "exchange", bool(routing_key)
    if not is_declared:
        raise TypeError(f"{message_type.type} is not declared on {channel.name}")
    message_id = message_id or new_id()
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(message_id),
        "type": message_type.type,
        "source": f"/caravan/{source}",
        "subject": key,
        "time": format_rfc3339(time),
        "datacontenttype": "application/json",
        "dataversion": message_type.version,
        "data": orjson.Fragment(message.__pydantic_serializer__.to_json(message)),
    }
    if traceparent:
        envelope["traceparent"] = traceparent
    if tracestate:
        envelope["tracestate"] = tracestate
    if actor:
        envelope["actor"] = actor
    if causation_id:
        envelope["causationid"] = causation_id
    body = orjson.dumps(envelope)
    if len(body) > MAX_BYTES:
        raise MessageTooLarge(f"{message_type.type} for {key} is {len(body)} bytes, over the limit of {MAX_BYTES}")
    return OutgoingMessage(channel_type, channel.name, routing_key, key, message_id, body)


_RECENT_MESSAGES = 4_000
_RECENT_BYTES = 4_096
_recent_deliveries: FifoCache[bytes, Delivery[Any]] = FifoCache(_RECENT_MESSAGES)
"""What was read last of topics and exchanges: in one process several services read the same message, and validating it
is most of what reading costs. Messages are frozen. A queue has one reader, whose messages would only push out the
others.
"""


def decode_message(
    body: bytes, accepted_types: Mapping[str, type[M]], *, attempt: int = 1, shared: bool = True
) -> Delivery[M]:
    """Read an envelope, which others may read, too, when it is `shared`. Raises MalformedMessage with a reason that
    names the rule it breaks.
    """
    delivery = _recent_deliveries.get(body) if shared else None
    if delivery is None or accepted_types.get(delivery.message.type) is not type(delivery.message):
        delivery = _parse_envelope(body, accepted_types)
        if shared and len(body) <= _RECENT_BYTES:
            _recent_deliveries[body] = delivery
    return delivery if attempt == 1 else delivery._replace(attempt=attempt)


def _parse_envelope(body: bytes, accepted_types: Mapping[str, type[M]]) -> Delivery[M]:
    if len(body) > MAX_BYTES:
        raise MalformedMessage(f"{len(body)} bytes, over the limit of {MAX_BYTES}")
    try:
        envelope = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedMessage(f"not JSON: {error}") from None
    try:
        type_name, version = envelope["type"], envelope["dataversion"]
        causation_id = envelope.get("causationid")
        message_type = accepted_types.get(type_name)
        if message_type is None:
            raise MalformedMessage(f"unknown type {type_name!r}: this reader takes {', '.join(accepted_types)}")
        if version > message_type.version:
            raise MalformedMessage(f"{type_name} version {version} is newer than this reader's {message_type.version}")
        return Delivery(
            message=message_type.model_validate(envelope["data"]),
            id=as_id(envelope["id"]),
            key=envelope["subject"],
            time=datetime.fromisoformat(envelope["time"]),
            traceparent=envelope.get("traceparent"),
            actor=envelope.get("actor"),
            causation_id=parse_id(causation_id) if isinstance(causation_id, str) else None,
            tracestate=envelope.get("tracestate"),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise MalformedMessage(f"{envelope.get('type')}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedMessage(f"no envelope: {type(error).__name__} {error}") from None
