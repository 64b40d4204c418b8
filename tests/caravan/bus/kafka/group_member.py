"""A member of a group on the fake Kafka, which owns the only partition of its topic, and a handler that notes what it
gets.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from caravan.bus import DONE, HandlingResult, IncomingMessage, Result, Subscription
from caravan.bus.kafka.reader import GroupReader
from caravan.bus.kafka.subscriber import build_broker
from caravan.bus.kafka_servers import KafkaServers
from caravan.messages import Event, RetryPolicy, Topic
from tests.caravan.bus.kafka.fake_kafka import FakeConsumer, FakeKafka
from tests.caravan.bus.waiting import wait_for

FIRST = TopicPartition("seen", 0)
GROUP = "reader.seen"
SERVERS = KafkaServers("nowhere:9092", "SASL_PLAINTEXT", "PLAIN", "user", "secret")
RETRY = HandlingResult(Result.RETRY, "failed")
DEAD = HandlingResult(Result.DEAD, "rejected")


class Seen(Event):
    number: int


@dataclass
class Handler:
    """Notes the bodies that it was given, and what it answers to each; it ends a batch when `may_end` is set."""

    results: dict[bytes, list[HandlingResult]] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_end.set()

    async def handle_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        by_key: dict[str, HandlingResult] = {}
        outcomes = []
        for incoming in batch:
            if by_key.get(incoming.key) is RETRY:
                outcomes.append(HandlingResult(Result.BLOCKED))
                continue
            self.bodies.append(incoming.body)
            waiting = self.results.get(incoming.body)
            by_key[incoming.key] = waiting.pop(0) if waiting else DONE
            outcomes.append(by_key[incoming.key])
        await self.may_end.wait()
        return outcomes


@dataclass
class Member:
    reader: GroupReader
    consumer: FakeConsumer
    running: asyncio.Task[None]
    dead_letters: list[bytes]


@asynccontextmanager
async def run_member(
    kafka: FakeKafka, handler: Handler, delays: tuple[float, ...] = (0.01, 0.01), error: Exception | None = None
) -> AsyncIterator[Member]:
    """A reader that owns the only partition of its topic; `error`: what writing a dead letter raises."""
    dead_letters: list[bytes] = []

    async def write_dead_letter(_: Subscription, incoming: IncomingMessage, reason: str) -> None:
        if error:
            raise error
        dead_letters.append(incoming.body)

    kafka.add_topic("seen")
    topic = Topic("seen", "test", (Seen,), "key", "test", retry=RetryPolicy(delays=delays))
    broker = build_broker(SERVERS, "test")
    await broker.connect()
    reader = GroupReader(
        broker, SERVERS, ["seen"], write_dead_letter, Subscription("reader", topic, batch=10), handler.handle_batch
    )
    running = asyncio.create_task(reader.run())
    await wait_for(lambda: bool(kafka.consumers and kafka.consumers[0].listener))
    await kafka.consumers[0].rebalance([FIRST])
    try:
        yield Member(reader, kafka.consumers[0], running, dead_letters)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await reader.close()


def send_bodies(kafka: FakeKafka, *messages: tuple[str, bytes]) -> None:
    for key, body in messages:
        kafka.append_record("seen", key.encode(), body)
