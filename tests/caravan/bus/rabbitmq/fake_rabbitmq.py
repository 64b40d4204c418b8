"""A RabbitMQ in memory behind aio-pika's connection, which fails when a test tells it to.

The tests of `caravan/bus/rabbitmq` run on it; `tests/contract` proves the same modules on a broker.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

import aio_pika
import pytest
from aio_pika.exceptions import (
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
)
from pamqp.commands import Basic

DeliveryCallback = Callable[[Any], Awaitable[Any]]


@dataclass(slots=True)
class Delivery:
    """A message as it is queued, and as it is delivered: then with a tag, and the channel that it came on."""

    position: int
    body: bytes
    headers: dict[str, Any]
    message_id: str | None = None
    delivery_tag: int = 0
    channel: Any = None
    redelivered: bool = False

    async def ack(self) -> None:
        await self.channel.basic_ack(self.delivery_tag)


@dataclass
class FakeQueue:
    name: str
    ready: list[Delivery] = field(default_factory=list)
    consumers: list[tuple["FakeChannel", DeliveryCallback]] = field(default_factory=list)


class FakeRabbitmq:
    def __init__(self) -> None:
        self.queues: dict[str, FakeQueue] = {}
        self.bound_queues: dict[str, list[str]] = {}
        """Of each exchange."""
        self.connections: list[FakeConnection] = []
        self.channels: list[FakeChannel] = []
        self.operations: list[str] = []
        self.publishes: dict[str, list[Basic.Properties]] = defaultdict(list)
        self.failures: dict[str, BaseException] = {}
        """What the next call of an operation, such as "ack", raises."""
        self.answers: dict[str, asyncio.Event] = {}
        """Operations that get an answer only when the event is set."""
        self.size_limit = 1_000_000
        self.requeue_seconds = 0.0
        self._position = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(aio_pika, "Connection", lambda url, **given: FakeConnection(self, str(url), given))

    def add_queue(self, *names: str) -> None:
        self.queues |= {name: FakeQueue(name) for name in names}

    def put_message(self, queue: str, body: bytes, message_id: str | None = None, **headers: Any) -> None:
        self._position += 1
        named_headers = {f"x-{name.replace('_', '-')}": value for name, value in headers.items()}
        self.queues[queue].ready.append(Delivery(self._position, body, named_headers, message_id))

    def read_bodies(self, queue: str) -> list[bytes]:
        return [delivery.body for delivery in self.queues[queue].ready]

    def withhold_answer(self, *operations: str) -> asyncio.Event:
        answered = asyncio.Event()
        self.answers |= dict.fromkeys(operations, answered)
        return answered

    async def answer(self, operation: str) -> None:
        """Every operation of the clients begins here."""
        self.operations.append(operation)
        await asyncio.sleep(0)
        if operation in self.answers:
            await self.answers[operation].wait()
        if error := self.failures.pop(operation, None):
            raise error

    async def deliver_ready(self) -> None:
        for queue in self.queues.values():
            for channel, receive in queue.consumers[:1]:
                while queue.ready and len(channel.unacknowledged) < channel.prefetch:
                    delivery = queue.ready.pop(0)
                    channel.last_tag += 1
                    delivery.delivery_tag, delivery.channel = channel.last_tag, channel
                    channel.unacknowledged[channel.last_tag] = (queue, delivery)
                    await receive(delivery)


class FakeConnection:
    def __init__(self, rabbitmq: FakeRabbitmq, url: str, options: dict[str, Any]) -> None:
        self.rabbitmq = rabbitmq
        self.url = url
        self.options = options
        self.is_closed = False
        self.connected = asyncio.Event()
        rabbitmq.connections.append(self)

    async def connect(self) -> None:
        await self.rabbitmq.answer("connect")
        self.connected.set()

    def channel(self, **options: Any) -> "FakeChannel":
        return FakeChannel(self.rabbitmq, self, options)

    async def close(self) -> None:
        """Closed whatever comes of it, as aio-pika's is."""
        if not self.is_closed:
            self.is_closed = True
            await self.rabbitmq.answer("close connection")


class FakeChannel:
    """Also its own underlay."""

    def __init__(self, rabbitmq: FakeRabbitmq, connection: FakeConnection, options: dict[str, Any]) -> None:
        self.rabbitmq = rabbitmq
        self.connection = connection
        self.options = options
        self.is_closed = False
        self.is_initialized = False
        self.close_callbacks: set[Callable[..., Any]] = set()
        self.prefetch = 0
        self.last_tag = 0
        self.unacknowledged: dict[int, tuple[FakeQueue, Delivery]] = {}
        self.acknowledged: list[bytes] = []
        self.acknowledgements: list[tuple[int, bool]] = []
        """Each as it was sent: the tag, and whether it is meant for those before it, too."""
        rabbitmq.channels.append(self)

    def __await__(self) -> Generator[Any, None, Self]:
        self.is_initialized = True
        yield from self.rabbitmq.answer("open channel").__await__()
        return self

    async def close(self) -> None:
        await self.rabbitmq.answer("close channel")
        self.end()

    def end(self) -> None:
        """As the broker ends it, too: what is not acknowledged is back in its position a little later."""
        if not self.is_closed:
            self.is_closed = True
            for queue in self.rabbitmq.queues.values():
                queue.consumers = [consumer for consumer in queue.consumers if consumer[0] is not self]
            asyncio.get_running_loop().call_later(self.rabbitmq.requeue_seconds, self._requeue)
            for callback in list(self.close_callbacks):
                callback(self, None)

    def _requeue(self) -> None:
        for queue, delivery in self.unacknowledged.values():
            queue.ready = sorted([*queue.ready, delivery], key=lambda each: each.position)
        self.unacknowledged.clear()

    async def get_underlay_channel(self) -> Self:
        return self

    async def set_qos(self, *, prefetch_count: int) -> None:
        self.prefetch = prefetch_count

    async def get_queue(self, name: str, *, ensure: bool) -> "FakeDeclaredQueue":
        assert not ensure
        return FakeDeclaredQueue(self, self.rabbitmq.queues[name])

    async def declare_queue(self, name: str, *, passive: bool) -> "FakeDeclaredQueue":
        assert passive, "only the topology makes queues"
        await self.rabbitmq.answer(f"declare {name}")
        if name not in self.rabbitmq.queues:
            self.end()
            raise ChannelNotFoundEntity(f"NOT_FOUND - no queue '{name}'")
        return FakeDeclaredQueue(self, self.rabbitmq.queues[name])

    async def basic_publish(
        self, body: bytes, *, exchange: str, routing_key: str, properties: Basic.Properties, mandatory: bool, wait: bool
    ) -> None:
        await self.rabbitmq.answer(f"publish to {exchange or routing_key}")
        if self.is_closed:
            raise ChannelInvalidStateError("closed")
        if len(body) > self.rabbitmq.size_limit:
            self.end()
            raise ChannelPreconditionFailed(f"message of {len(body)} bytes is too large")
        if exchange and exchange not in self.rabbitmq.bound_queues:
            self.end()
            raise ChannelNotFoundEntity(f"NOT_FOUND - no exchange '{exchange}'")
        targets = self.rabbitmq.bound_queues[exchange] if exchange else [routing_key]
        if mandatory and targets[0] not in self.rabbitmq.queues:
            raise DeliveryError(None, Basic.Return(312, "NO_ROUTE", exchange, routing_key))
        self.rabbitmq.publishes[exchange or routing_key].append(properties)
        for target in targets:
            self.rabbitmq.put_message(target, body, properties.message_id)
            self.rabbitmq.queues[target].ready[-1].headers = dict(properties.headers or {})
        await self.rabbitmq.deliver_ready()

    async def basic_ack(self, delivery_tag: int, *, multiple: bool = False, wait: bool = True) -> None:
        await self.rabbitmq.answer("ack")
        if self.is_closed:
            raise ChannelInvalidStateError("closed")
        self.acknowledgements.append((delivery_tag, multiple))
        tags = [tag for tag in sorted(self.unacknowledged) if tag <= delivery_tag] if multiple else [delivery_tag]
        self.acknowledged += [self.unacknowledged.pop(tag)[1].body for tag in tags]
        await self.rabbitmq.deliver_ready()


class FakeDeclaredQueue:
    """A queue as a channel sees it."""

    def __init__(self, channel: FakeChannel, queue: FakeQueue) -> None:
        self._channel = channel
        self._queue = queue
        self.name = queue.name
        self.declaration_result = SimpleNamespace(message_count=len(queue.ready), consumer_count=len(queue.consumers))

    async def consume(self, receive: DeliveryCallback) -> str:
        await self._channel.rabbitmq.answer("consume")
        self._queue.consumers.append((self._channel, receive))
        await self._channel.rabbitmq.deliver_ready()
        return "consumer"
