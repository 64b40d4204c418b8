"""The active consumer of a queue acknowledges what is done, and nothing else; a copy in a retry tier is never run."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest
from aio_pika.exceptions import AMQPConnectionError
from hypothesis import given
from hypothesis import strategies as st

from caravan.bus import DONE, HandlingResult, IncomingMessage, Result, Subscription
from caravan.bus.rabbitmq import reader as reader_module
from caravan.bus.rabbitmq.connections import Publisher, RabbitConnection
from caravan.bus.rabbitmq.reader import QueueReader, build_incoming
from caravan.bus.retry_buffer import RETRY_BUFFER_MAX
from caravan.clock import utc_now
from caravan.messages import Command, Queue, RetryPolicy
from tests.caravan.bus.rabbitmq.fake_rabbitmq import Delivery, FakeChannel, FakeRabbitmq
from tests.caravan.bus.waiting import wait_for

QUEUE = "test.count"
RETRY = HandlingResult(Result.RETRY, "failed")
DEAD = HandlingResult(Result.DEAD, "rejected")


class Count(Command):
    number: int


@dataclass
class Handler:
    """Notes body and attempt of what it was given, and what it answers to each body."""

    results: dict[bytes, list[HandlingResult]] = field(default_factory=dict)
    handled: list[tuple[bytes, int]] = field(default_factory=list)
    before_its_end: Callable[[], None] = lambda: None
    """Happens while it handles a batch."""

    async def handle_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        by_key: dict[str, HandlingResult] = {}
        outcomes = []
        for incoming in batch:
            if by_key.get(incoming.key) is RETRY:
                outcomes.append(HandlingResult(Result.BLOCKED))
                continue
            self.handled.append((incoming.body, incoming.attempt))
            waiting = self.results.get(incoming.body)
            by_key[incoming.key] = waiting.pop(0) if waiting else DONE
            outcomes.append(by_key[incoming.key])
        self.before_its_end()
        return outcomes


@dataclass
class Consumer:
    reader: QueueReader
    channel: FakeChannel
    running: asyncio.Task[None]


@asynccontextmanager
async def run_consumer(
    rabbitmq: FakeRabbitmq, handler: Handler, delays: tuple[float, ...] = (0.01, 0.01)
) -> AsyncIterator[Consumer]:
    connection = RabbitConnection("amqp://nobody:nothing@nowhere/", "test")
    queue = Queue(QUEUE, "test", (Count,), "number", "test", retry=RetryPolicy(delays=delays))
    channel: Any = await connection.open_channel()
    subscription = Subscription("reader", queue, batch=10)
    reader = QueueReader(connection, channel, Publisher(connection), utc_now, subscription, handler.handle_batch)
    running = asyncio.create_task(reader.run())
    try:
        yield Consumer(reader, channel, running)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await reader.close()
        await connection.stop()


@pytest.fixture
def rabbitmq(fake_rabbitmq: FakeRabbitmq) -> FakeRabbitmq:
    fake_rabbitmq.add_queue(QUEUE, f"{QUEUE}.dlq", f"{QUEUE}.retry.1", f"{QUEUE}.retry.2")
    return fake_rabbitmq


async def send_message(rabbitmq: FakeRabbitmq, key: str, body: bytes, **headers: Any) -> None:
    """Its id is its body."""
    rabbitmq.put_message(QUEUE, body, body.decode(), key=key, **headers)
    await rabbitmq.deliver_ready()


async def send_copy(rabbitmq: FakeRabbitmq, key: str, body: bytes, attempt: int) -> None:
    """As a retry tier gives it back when it is due."""
    await send_message(rabbitmq, key, body, copy_of=body.decode(), attempt=attempt)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-key": "k", "x-attempt": 2}, ("k", 2)),
        ({"x-key": b"\xff", "x-attempt": "many"}, ("�", 1)),
        ({"x-key": 7, "x-attempt": -1}, ("7", 1)),
        ({}, ("", 1)),
    ],
)
def test_any_delivery_is_a_message(headers: dict[str, Any], expected: tuple[str, int]) -> None:
    """Whatever a foreign producer wrote into its headers, the inbox gets it and counts its attempts."""
    delivery: Any = Delivery(0, b"\xff", headers)
    incoming = build_incoming(delivery)
    assert (incoming.key, incoming.attempt, incoming.body) == (*expected, b"\xff")


async def test_what_is_done_is_acknowledged_and_no_more_is_taken_than_can_be_held(rabbitmq: FakeRabbitmq) -> None:
    handler = Handler()
    async with run_consumer(rabbitmq, handler) as consumer:
        await send_message(rabbitmq, "a", b"0")
        await send_message(rabbitmq, "b", b"1")
        await wait_for(lambda: consumer.channel.acknowledged == [b"0", b"1"])
        assert consumer.channel.prefetch == RETRY_BUFFER_MAX + 20
    assert handler.handled == [(b"0", 1), (b"1", 1)]


async def test_a_batch_is_acknowledged_at_once_up_to_what_is_unfinished(rabbitmq: FakeRabbitmq) -> None:
    for number in range(5):
        await send_message(rabbitmq, f"key {number}", b"%d" % number)
    handler = Handler({b"2": [RETRY]})
    async with run_consumer(rabbitmq, handler, delays=(30.0,)) as consumer:
        await wait_for(lambda: len(consumer.channel.acknowledged) == 4)
        assert consumer.channel.acknowledgements == [(2, True), (4, False), (5, False)]
        await send_message(rabbitmq, "key 5", b"5")
        await wait_for(lambda: len(consumer.channel.acknowledged) == 5)
        assert consumer.channel.acknowledgements[3:] == [(6, False)]
        assert [delivery.body for _, delivery in consumer.channel.unacknowledged.values()] == [b"2"]


@given(st.lists(st.sampled_from([DONE, DEAD, RETRY]), max_size=25), st.lists(st.integers(1, 6), max_size=8))
async def test_nothing_unfinished_is_ever_acknowledged(outcomes: list[HandlingResult], sizes: list[int]) -> None:
    """Whatever comes of the messages, and however many come at once."""
    rabbitmq = FakeRabbitmq()
    rabbitmq.add_queue(QUEUE, f"{QUEUE}.dlq", f"{QUEUE}.retry.1", f"{QUEUE}.retry.2")
    handler = Handler({b"%d" % number: [outcome] for number, outcome in enumerate(outcomes)})
    finished = {b"%d" % number for number, outcome in enumerate(outcomes) if outcome is not RETRY}
    with pytest.MonkeyPatch.context() as patch:
        rabbitmq.install(patch)
        async with run_consumer(rabbitmq, handler, delays=(30.0, 30.0)) as consumer:
            numbers = iter(range(len(outcomes)))
            for size in [*sizes, len(outcomes)]:
                for number in islice(numbers, size):
                    rabbitmq.put_message(QUEUE, b"%d" % number, str(number), key=str(number))
                await rabbitmq.deliver_ready()
            await wait_for(lambda: len(consumer.channel.acknowledged) == len(finished))
            assert set(consumer.channel.acknowledged) == finished


async def test_one_that_failed_stays_unacknowledged_and_shows_in_the_tier_of_its_attempt(
    rabbitmq: FakeRabbitmq,
) -> None:
    handler = Handler({b"0": [RETRY, RETRY]})
    async with run_consumer(rabbitmq, handler, delays=(0.01, 30.0)) as consumer:
        await send_message(rabbitmq, "a", b"0")
        await send_message(rabbitmq, "a", b"1")
        await wait_for(lambda: bool(rabbitmq.publishes[f"{QUEUE}.retry.2"]))
        await send_message(rabbitmq, "b", b"2")
        await wait_for(lambda: consumer.channel.acknowledged == [b"2"])
    tiers = [rabbitmq.publishes[f"{QUEUE}.retry.{tier}"][0].headers for tier in (1, 2)]
    assert tiers == [{"x-key": "a", "x-attempt": attempt, "x-copy-of": "0"} for attempt in (2, 3)]
    assert handler.handled == [(b"0", 1), (b"0", 2), (b"2", 1)]
    await asyncio.sleep(0)
    assert rabbitmq.read_bodies(QUEUE) == [b"0", b"1"], "back in their positions"


async def test_what_follows_a_failed_message_under_its_key_is_handled_after_it(rabbitmq: FakeRabbitmq) -> None:
    handler = Handler({b"0": [RETRY, RETRY]})
    async with run_consumer(rabbitmq, handler) as consumer:
        await send_message(rabbitmq, "a", b"0")
        await wait_for(lambda: bool(handler.handled))
        await send_message(rabbitmq, "a", b"1")
        await wait_for(lambda: len(consumer.channel.acknowledged) == 2)
    assert handler.handled == [(b"0", 1), (b"0", 2), (b"0", 3), (b"1", 1)]


async def test_a_copy_is_not_handled_and_brings_its_original_up_to_date_after_a_restart(
    rabbitmq: FakeRabbitmq,
) -> None:
    handler = Handler({b"0": [RETRY]})
    async with run_consumer(rabbitmq, handler, delays=(0.1, 0.01)) as consumer:
        await send_message(rabbitmq, "a", b"0")
        await wait_for(lambda: len(consumer.reader.retry_buffer) == 1)
        await send_copy(rabbitmq, "a", b"0", attempt=3)
        await send_copy(rabbitmq, "a", b"of one that is done", attempt=2)
        await wait_for(lambda: len(consumer.channel.acknowledged) == 3)
    assert handler.handled == [(b"0", 1), (b"0", 3)]


async def test_a_copy_that_comes_with_its_original_counts_its_attempts(rabbitmq: FakeRabbitmq) -> None:
    """After a restart that took longer than the pause."""
    handler = Handler()
    rabbitmq.put_message(QUEUE, b"0", "0", key="a")
    rabbitmq.put_message(QUEUE, b"0", "0", key="a", copy_of="0", attempt=3)
    async with run_consumer(rabbitmq, handler) as consumer:
        await wait_for(lambda: len(consumer.channel.acknowledged) == 2)
    assert handler.handled == [(b"0", 3)]


async def test_without_a_copy_it_is_tried_again_all_the_same(rabbitmq: FakeRabbitmq) -> None:
    handler = Handler({b"0": [RETRY]})
    rabbitmq.failures[f"publish to {QUEUE}.retry.1"] = AMQPConnectionError("gone")
    async with run_consumer(rabbitmq, handler) as consumer:
        await send_message(rabbitmq, "a", b"0")
        await wait_for(lambda: consumer.channel.acknowledged == [b"0"])
    assert handler.handled == [(b"0", 1), (b"0", 2)]


async def test_one_that_is_given_up_is_acknowledged_when_its_dead_letter_is_confirmed(rabbitmq: FakeRabbitmq) -> None:
    async with run_consumer(rabbitmq, Handler({b"0": [DEAD], b"1": [DEAD]})) as consumer:
        await send_message(rabbitmq, "a", b"0")
        await wait_for(lambda: consumer.channel.acknowledged == [b"0"])
        (properties,) = rabbitmq.publishes[f"{QUEUE}.dlq"]
        assert properties.headers is not None
        assert (properties.headers["x-reason"], properties.headers["x-channel"]) == ("rejected", QUEUE)
        rabbitmq.failures[f"publish to {QUEUE}.dlq"] = AMQPConnectionError("gone")
        await send_message(rabbitmq, "a", b"1")
        with pytest.raises(AMQPConnectionError):
            await asyncio.wait_for(consumer.running, 5)
        assert consumer.channel.acknowledged == [b"0"]


async def test_a_reader_at_rest_ends_at_once_when_its_channel_is_closed(rabbitmq: FakeRabbitmq) -> None:
    async with run_consumer(rabbitmq, Handler()) as consumer:
        await wait_for(lambda: bool(rabbitmq.queues[QUEUE].consumers))
        consumer.channel.end()
        with pytest.raises(ConnectionError, match="the channel was closed"):
            await asyncio.wait_for(consumer.running, 5)


async def test_a_batch_whose_channel_was_closed_meanwhile_is_not_acknowledged(rabbitmq: FakeRabbitmq) -> None:
    """What it held is another consumer's by now."""
    handler = Handler({b"0": [DEAD]})
    async with run_consumer(rabbitmq, handler) as consumer:
        handler.before_its_end = consumer.channel.end
        await send_message(rabbitmq, "a", b"0")
        with pytest.raises(ConnectionError, match="the channel was closed"):
            await asyncio.wait_for(consumer.running, 5)
    assert handler.handled == [(b"0", 1)]
    assert rabbitmq.publishes[f"{QUEUE}.dlq"] == []


async def test_a_queue_without_a_leader_is_named(rabbitmq: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "CONNECT_SECONDS", 0.02)
    rabbitmq.withhold_answer("consume")
    async with run_consumer(rabbitmq, Handler()) as consumer:
        with pytest.raises(ConnectionError, match=rf"has not begun to deliver from {QUEUE}.*has the queue a leader"):
            await asyncio.wait_for(consumer.running, 5)


async def test_an_acknowledgement_that_does_not_get_out_ends_the_reader(
    rabbitmq: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The buffer of a connection that is gone is emptied by nobody."""
    monkeypatch.setattr(reader_module, "ACKNOWLEDGE_SECONDS", 0.02)
    rabbitmq.withhold_answer("ack")
    async with run_consumer(rabbitmq, Handler()) as consumer:
        await send_message(rabbitmq, "a", b"0")
        await asyncio.wait([consumer.running], timeout=5)
        assert isinstance(consumer.running.exception(), TimeoutError)


async def test_a_reader_at_rest_stops_at_once_and_closing_it_closes_its_channel(rabbitmq: FakeRabbitmq) -> None:
    async with run_consumer(rabbitmq, Handler()) as consumer:
        await wait_for(lambda: bool(rabbitmq.queues[QUEUE].consumers))
        consumer.reader.stop()
        await asyncio.wait_for(consumer.running, 5)
        await consumer.reader.close()
        assert consumer.channel.is_closed
