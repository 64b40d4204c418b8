"""The interface of every transport, and what a subscription is; `tests/contract` holds each transport to it.

- `publish` returns after the messages are durable, and only then; `PublishError` names those that are not.
- Each subscription receives every message at least once; messages of one key in the order they were published, also
  through retries: a waiting key is never overtaken, other keys go on.
- When the attempts of `RetryPolicy` are used up, or the handler rejects a message, it becomes a dead letter with reason
  and origin, and the key goes on.
- While the infrastructure is unavailable the reader waits, which costs no attempt.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple, Protocol

from caravan.messages import Binding, Exchange, OutgoingMessage, Queue, RetryPolicy, Source, Topic

__all__ = [
    "DEAD_LETTER_KEY_BYTES",
    "DEAD_LETTER_MAX_BYTES",
    "DONE",
    "NEW_READER_AGE",
    "BackgroundTask",
    "BatchHandler",
    "Bus",
    "DeadLetter",
    "HandlingResult",
    "IncomingMessage",
    "LoggedMessage",
    "PublishError",
    "PublishFailure",
    "Result",
    "Subscription",
    "TopicLog",
    "cut_key",
]


NEW_READER_AGE = timedelta(days=7)
"""So far back a reader of a topic begins that has no position there: it is new, or Kafka has forgotten its group. A
topic may keep more, but of older messages the inbox no longer knows which were handled.
"""


class Result(Enum):
    DONE = "done"
    RETRY = "retry"
    DEAD = "dead"
    BLOCKED = "blocked"
    """Not tried, because an earlier message of its key failed: stays behind that one, and keeps its attempts."""


class IncomingMessage(NamedTuple):
    """A message as the transport delivers it, not decoded: attempts of one that can't be decoded count, too."""

    key: str
    body: bytes
    attempt: int
    handle: Any = None
    """The transport's own reference."""
    is_redelivered: bool = False
    """The broker says that somebody had it before."""


class HandlingResult(NamedTuple):
    result: Result
    reason: str = ""


DONE = HandlingResult(Result.DONE)

BatchHandler = Callable[[list[IncomingMessage]], Awaitable[list[HandlingResult]]]
"""Handles a batch, in order, and says what came of each. Raises only for trouble of the infrastructure: then nothing of
the batch counts.
"""


BackgroundTask = Callable[[], Coroutine[Any, Any, None]]
"""Work that runs as long as the process; called again when it failed."""


@dataclass(frozen=True, slots=True)
class PublishFailure:
    """Why a message was not published. `permanent`: sending it again can't help."""

    message: OutgoingMessage
    reason: str
    permanent: bool = False


class PublishError(Exception):
    """Some messages are not durable, and with each of them every later one of its key on that channel; all others of
    the call are.
    """

    def __init__(self, failures: Sequence[PublishFailure]) -> None:
        super().__init__(
            "; ".join(sorted({f"{failure.message.channel}: {failure.reason}" for failure in failures})[:5])
        )
        self.failures = failures


@dataclass(frozen=True, slots=True)
class Subscription:
    """A named reader of a channel: a group on a topic, the consumer of a queue, or a queue bound to an exchange."""

    service: str
    """Or the consumer group in it that reads beside the others, such as `reporting` of analytics."""
    source: Source
    batch: int = 100
    linger: float = 0.0
    """Least seconds from the start of one batch to that of the next, more under load (`caravan/pacing.py`). A lone
    message never waits for it.
    """
    max_lag_seconds: float = 60.0
    """How old the oldest message that waits for it may be; beyond that an alert fires (`observability/lag.py`)."""

    @property
    def name(self) -> str:
        """Group or queue: also the consumer's name in the inbox."""
        match self.source:
            case Topic(name=name):
                return f"{self.service}.{name}"
            case Queue(name=name):
                return name
            case Binding(queue=queue):
                return queue

    @property
    def channel(self) -> str:
        match self.source:
            case Topic(name=name) | Queue(name=name):
                return name
            case Binding(exchange=Exchange(name=name)):
                return name

    @property
    def retry(self) -> RetryPolicy:
        return self.source.retry


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up, with its reason and where it came from. `id` is the transport's own, and unique
    within the subscription.
    """

    id: str
    subscription: str
    channel: str
    key: str
    body: bytes
    reason: str
    attempt: int
    dead_lettered_at: datetime
    size: int = 0
    """Bytes of the whole body; `body` may be its beginning."""
    redrivable: bool = True
    """False when it can't be redriven: the transport could not keep all of it, or it has not been given up."""


DEAD_LETTER_MAX_BYTES = 900_000
"""A dead letter keeps at most so much of a body: what is longer came from a foreign producer, and our own may not send
it again.
"""

DEAD_LETTER_KEY_BYTES = 16_384
"""And so much of a key. RabbitMQ ends the connection of whoever sends more headers than fit into a frame of 128 KiB."""


def cut_key(key: str) -> str:
    """As much of a key as a dead letter keeps."""
    return key.encode(errors="replace")[:DEAD_LETTER_KEY_BYTES].decode(errors="ignore")


class LoggedMessage(NamedTuple):
    topic: str
    body: bytes


class TopicLog(Protocol):
    """Reads topics from their first message on, as no group: who reads it moves nothing. `embedded/log.py` and
    `kafka/log.py` are the two.
    """

    async def read_messages(self, limit: int) -> list[LoggedMessage]:
        """The next messages, those of one key in their order; none at the end. Whoever asks again gets what has come
        since.
        """


class Bus(Protocol):
    @property
    def reachable(self) -> Mapping[str, bool]:
        """Of each broker whether it answered when it was asked last; none where messages are in the database."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def list_background_tasks(self) -> list[tuple[str, BackgroundTask]]:
        """Work of the transport's own that runs as long as the process, by name."""

    async def declare_channels(
        self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]
    ) -> None:
        """Make what is missing of these channels and readers. A new reader of a topic starts at the first message that
        is not older than NEW_READER_AGE.
        """

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None: ...

    async def consume(self, subscription: Subscription, handler: BatchHandler) -> None:
        """Run until cancelled; the running batch is finished first when `stop` was called."""

    async def stop(self) -> None:
        """Take no further batch; `consume` returns when its running batch is done."""

    async def measure_lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        """Messages waiting for each of these."""

    async def count_dead_letters(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        """How many dead letters each of these has."""

    async def list_dead_letters(
        self,
        subscriptions: Sequence[Subscription],
        *,
        limit: int = 100,
        preview: int = DEAD_LETTER_MAX_BYTES,
        key: str | None = None,
    ) -> list[DeadLetter]:
        """The dead letters of these subscriptions (and of this key), oldest first, with the first `preview` bytes of
        the bodies.
        """

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        """Give dead letters to their subscription again (to no other), in the order they died, with their message ids,
        as attempt 1. How many.
        """

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int:
        """Remove dead letters for good. How many."""
