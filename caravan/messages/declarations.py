"""What is declared: messages, and the topics, queues and exchanges that they travel on, each with its owner and its
retries.

Services declare theirs in `messages.py`; `envelope.py` writes and reads what is declared here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict


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


KEPT = timedelta(days=3650)
"""The retention of a topic from which read models are rebuilt."""


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
    """The regular expression of an AMQP routing pattern: `*` is one word, `#` is any number of words, also none."""
    words = pattern.split(".")
    if set(words) == {"#"}:
        return "^.*$"
    regex, is_first = "^", True
    for word in words:
        if word == "#":
            regex += r"([^.]+\.)*" if is_first else r"(\.[^.]+)*"
        else:
            regex += ("" if is_first else r"\.") + (r"[^.]+" if word == "*" else re.escape(word))
            is_first = False
    return regex + "$"
