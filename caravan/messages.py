"""Messages and the channels they travel on, each declared once.

An `Event` is a fact in the past tense, published on a `Topic` (a log) or announced on an `Exchange`
(publish/subscribe). A `Command` is an order to one owner, sent to that owner's `Queue`. Documentation, topology and the
custom resources are generated from these declarations.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from caravan.cache import FifoCache
from caravan.clock import as_id, format_rfc3339, new_id

MAX_BYTES = 900_000
"""Largest encoded envelope. Kafka's default request limit is 1 MiB, and a message that can't be sent must fail where it
is emitted, not in the relay.
"""


class Message(BaseModel):
    """The payload of a message. Readers ignore fields they don't know; a breaking change is a new class `...V2` sent
    beside the old one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str] = ""
    """`<service>.<Class>` on the wire: never a module path."""
    version: ClassVar[int] = 1
    """Raised when a field is added, so that a reader can tell what it holds."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        parts = cls.__module__.split(".")
        cls.type = f"{parts[-2] if len(parts) > 1 else parts[0]}.{cls.__name__}"


class Event(Message):
    """A fact that has happened."""


class Command(Message):
    """An order to one service; the class belongs to the receiver."""


M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed message is tried again. Delays are seconds before attempt 2, 3, ...; when they are used up it
    is a dead letter.
    """

    delays: tuple[float, ...] = (0.2, 1.0, 5.0, 30.0, 120.0)

    @property
    def max_attempts(self) -> int:
        return len(self.delays) + 1


@dataclass(frozen=True, slots=True)
class Topic:
    """A log on Kafka: keyed, ordered per key, replayable, read by any number of groups."""

    name: str
    owner: str
    events: tuple[type[Event], ...]
    key: str
    purpose: str
    partitions: int = 3
    retention: timedelta = timedelta(days=7)
    retry: RetryPolicy = field(default=RetryPolicy())

    def __post_init__(self) -> None:
        for event in self.events:
            if not issubclass(event, Event):
                raise TypeError(f"topic {self.name}: {event.__name__} is not an Event; a Command goes to a Queue")


@dataclass(frozen=True, slots=True)
class Queue:
    """A task list on RabbitMQ for one owner: acknowledged, retried in tiers, dead-lettered."""

    name: str
    owner: str
    commands: tuple[type[Command], ...]
    key: str
    purpose: str
    max_length: int = 1_000_000
    retry: RetryPolicy = field(default=RetryPolicy())

    def __post_init__(self) -> None:
        for command in self.commands:
            if not issubclass(command, Command):
                raise TypeError(
                    f"queue {self.name}: {command.__name__} is not a Command; an Event goes to a Topic or an Exchange"
                )


@dataclass(frozen=True, slots=True)
class Exchange:
    """A topic exchange on RabbitMQ for short-lived announcements: every bound queue gets its own copy."""

    name: str
    owner: str
    routes: Mapping[str, type[Event]]
    key: str
    purpose: str

    def __post_init__(self) -> None:
        for event in self.routes.values():
            if not issubclass(event, Event):
                raise TypeError(f"exchange {self.name}: {event.__name__} is not an Event; a Command goes to a Queue")

    def bind(self, service: str, *patterns: str, retry: RetryPolicy | None = None) -> "Binding":
        """The queue `<service>.<exchange>` bound by routing-key patterns (`order.*`)."""
        return Binding(self, f"{service}.{self.name}", patterns, retry or RetryPolicy())


@dataclass(frozen=True, slots=True)
class Binding:
    """A subscriber's own queue on an exchange."""

    exchange: Exchange
    queue: str
    patterns: tuple[str, ...]
    retry: RetryPolicy


ChannelType = Literal["topic", "queue", "exchange"]
Channel = Topic | Queue | Exchange
Source = Topic | Queue | Binding


def list_message_types(channel: Channel) -> tuple[type[Message], ...]:
    """The messages that a channel declares."""
    match channel:
        case Topic(events=events):
            return events
        case Queue(commands=commands):
            return commands
        case Exchange(routes=routes):
            return tuple(routes.values())


def build_routing_regex(pattern: str) -> str:
    """The regular expression of an AMQP routing pattern: `*` is one word, `#` is any number of words."""
    words = {"*": r"[^.]+", "#": r".*"}
    return "^" + r"\.".join(words.get(word, re.escape(word)) for word in pattern.split(".")) + "$"


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


class Delivery(NamedTuple, Generic[M_co]):
    """A message as a handler gets it: the payload and what the envelope says of it."""

    message: M_co
    id: UUID
    key: str
    time: datetime
    traceparent: str | None
    actor: str | None
    attempt: int = 1


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
    if actor:
        envelope["actor"] = actor
    if causation_id:
        envelope["causationid"] = causation_id
    body = orjson.dumps(envelope)
    if len(body) > MAX_BYTES:
        raise MessageTooLarge(f"{message_type.type} for {key} is {len(body)} bytes, over the limit of {MAX_BYTES}")
    return OutgoingMessage(channel_type, channel.name, routing_key, key, message_id, body)


_RECENT_MESSAGES = 1_000
_RECENT_BYTES = 16_384
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
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise MalformedMessage(f"{envelope.get('type')}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedMessage(f"no envelope: {type(error).__name__} {error}") from None
