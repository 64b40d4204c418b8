"""One reader of a topic or a queue, driven batch by batch on a clock of the test's own: what it acknowledges, what it
puts off, and what waits behind that.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from caravan.bus import DONE, HandlingResult, IncomingMessage, Result, Subscription
from caravan.bus.embedded import EmbeddedBus, reader
from caravan.bus.embedded.reader import UNACKNOWLEDGED_SECONDS, QueueReader, TopicReader
from caravan.clock import utc_now
from caravan.messages import Queue, RetryPolicy, Topic
from caravan.runtime import Backends
from tests.contract.bus_messages import (
    Recorder,
    has_at_least,
    make_outgoing,
    make_queue,
    make_topic,
    read_message_number,
    run_consumers,
)
from tests.support.database import count_statements
from tests.support.embedded_bus import open_embedded_bus
from tests.support.shop import wait_until

RETRY = HandlingResult(Result.RETRY, "failed")
POLICY = RetryPolicy(delays=(60.0, 600.0))
KINDS: list[Callable[[RetryPolicy], Topic | Queue]] = [make_topic, make_queue]


@dataclass
class Stage:
    """A channel with messages, and readers of it that share the clock."""

    bus: EmbeddedBus
    subscription: Subscription
    now: list[datetime]
    handled: list[tuple[int, int]] = field(default_factory=list)
    """Number and attempt of each message that a handler was given."""
    failing: set[int] = field(default_factory=set)
    result: HandlingResult = RETRY

    def make_reader(self) -> QueueReader | TopicReader:
        kind = TopicReader if isinstance(self.subscription.source, Topic) else QueueReader
        return kind(self.bus.database, self.subscription, self.handle_batch)

    async def handle_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        results: list[HandlingResult] = []
        failed_keys: set[str] = set()
        for incoming in batch:
            if incoming.key in failed_keys:
                results.append(HandlingResult(Result.BLOCKED))
                continue
            number = read_message_number(incoming)
            self.handled.append((number, incoming.attempt))
            results.append(self.result if number in self.failing else DONE)
            if number in self.failing:
                failed_keys.add(incoming.key)
        return results

    async def publish(self, *messages: tuple[int, str]) -> None:
        assert isinstance(self.subscription.source, Topic | Queue)
        await self.bus.publish([make_outgoing(self.subscription.source, number, key) for number, key in messages])

    def advance(self, seconds: float) -> None:
        self.now[0] += timedelta(seconds=seconds)

    async def list_dead_letters(self) -> list[tuple[int, int, str]]:
        return [
            (read_message_number(letter), letter.attempt, letter.reason)
            for letter in await self.bus.list_dead_letters([self.subscription])
        ]


@pytest.fixture(params=KINDS, ids=["topic", "queue"])
async def stage(request: pytest.FixtureRequest, backends: Backends, embedded_bus: EmbeddedBus) -> AsyncIterator[Stage]:
    channel = request.param(POLICY)
    subscription, now = Subscription("reader", channel), [utc_now()]
    async with open_embedded_bus(backends, clock=lambda: now[0]) as bus:
        await bus.declare_channels([channel], [subscription])
        yield Stage(bus, subscription, now)


async def test_a_failed_message_waits_its_delay_its_key_waits_behind_it_and_others_go_on(stage: Stage) -> None:
    reader = stage.make_reader()
    stage.failing = {1}
    await stage.publish((1, "a"), (2, "a"), (3, "b"))
    await reader.handle_next_batch()
    await stage.publish((4, "a"), (5, "b"))
    await reader.handle_next_batch()
    assert stage.handled == [(1, 1), (3, 1), (5, 1)]
    stage.advance(59)
    await reader.handle_next_batch()
    stage.failing.clear()
    stage.advance(2)
    await reader.handle_next_batch()
    await reader.handle_next_batch()
    assert stage.handled[3:] == [(1, 2), (2, 1), (4, 1)]


async def test_when_its_attempts_are_used_up_it_is_a_dead_letter_and_its_key_goes_on(stage: Stage) -> None:
    reader = stage.make_reader()
    stage.failing = {1}
    await stage.publish((1, "a"), (2, "a"))
    for seconds in (0, 61, 601, 1):
        stage.advance(seconds)
        await reader.handle_next_batch()
    assert stage.handled == [(1, 1), (1, 2), (1, 3), (2, 1)]
    assert await stage.list_dead_letters() == [(1, 3, "failed")]


async def test_a_rejected_message_is_a_dead_letter_at_once_with_a_reason_of_bounded_length(stage: Stage) -> None:
    reader = stage.make_reader()
    stage.failing, stage.result = {1}, HandlingResult(Result.DEAD, "x" * 5000)
    await stage.publish((1, "a"), (2, "a"))
    for _ in range(2):
        await reader.handle_next_batch()
    assert stage.handled == [(1, 1), (2, 1)]
    assert await stage.list_dead_letters() == [(1, 1, "x" * 2000)]


async def test_what_a_dead_reader_did_not_acknowledge_comes_again_with_its_attempts(stage: Stage) -> None:
    reader = stage.make_reader()
    stage.failing = {1}
    await stage.publish((1, "a"))
    await reader.handle_next_batch()
    await stage.publish((2, "b"))
    await reader.handle_next_batch()
    stage.failing.clear()
    stage.advance(61)
    successor = stage.make_reader()
    await successor.load_waiting_keys()
    await successor.handle_next_batch()
    assert stage.handled == [(1, 1), (2, 1), (1, 2), (2, 1)]


async def test_a_finished_batch_is_acknowledged_by_the_next_read_or_when_asked(stage: Stage) -> None:
    reader = stage.make_reader()
    for number in (1, 2):
        await stage.publish((number, "a"))
        assert await reader.handle_next_batch() == 1
        assert reader.has_unacknowledged
    await reader.acknowledge_batch()
    successor = stage.make_reader()
    await successor.load_waiting_keys()
    assert await successor.handle_next_batch() == 0
    assert stage.handled == [(1, 1), (2, 1)]


async def test_it_rests_until_the_next_is_due_and_shortly_when_something_is_not_acknowledged(stage: Stage) -> None:
    reader = stage.make_reader()
    reader.choose_poll_seconds = lambda: 20.0
    assert reader.seconds_until_due(stage.now[0]) == 20.0
    await stage.publish((1, "a"))
    await reader.handle_next_batch()
    assert reader.seconds_until_due(stage.now[0]) == UNACKNOWLEDGED_SECONDS
    stage.failing = {2}
    await stage.publish((2, "b"))
    await reader.handle_next_batch()
    stage.advance(55)
    assert reader.seconds_until_due(stage.now[0]) == pytest.approx(5.0)
    stage.advance(30)
    assert reader.seconds_until_due(stage.now[0]) == 0.005


async def test_a_redriven_message_is_read_once_the_reader_is_told(stage: Stage) -> None:
    reader = stage.make_reader()
    reader.choose_poll_seconds = lambda: 3600.0
    stage.failing, stage.result = {1}, HandlingResult(Result.DEAD, "rejected")
    await stage.publish((1, "a"))
    await reader.handle_next_batch()
    stage.failing.clear()
    await stage.bus.redrive(await stage.bus.list_dead_letters([stage.subscription]))
    reader.request_reload()
    assert reader.wake_event.is_set()
    stage.advance(1)
    await reader.handle_next_batch()
    assert stage.handled == [(1, 1), (1, 1)]
    assert await stage.list_dead_letters() == []


@pytest.mark.parametrize("make", [make_topic, make_queue])
async def test_one_statement_acknowledges_a_message_and_reads_the_next(
    make: Callable[[], Topic | Queue], embedded_bus: EmbeddedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "UNACKNOWLEDGED_SECONDS", 60.0)
    channel, recorder, messages = make(), Recorder(), 20
    subscription = Subscription("reader", channel)
    await embedded_bus.declare_channels([channel], [subscription])
    async with run_consumers(embedded_bus, (subscription, recorder.process_batch)):
        await embedded_bus.publish([make_outgoing(channel, 0, "k")])
        await wait_until(lambda: has_at_least(recorder, 1))
        before = count_statements(embedded_bus.database)
        for number in range(1, messages + 1):
            await embedded_bus.publish([make_outgoing(channel, number, "k")])
            await wait_until(lambda count=number + 1: has_at_least(recorder, count))  # type: ignore[misc]
        assert count_statements(embedded_bus.database) - before <= 2 * messages + 2, (
            "one to publish and one to read each"
        )


@pytest.mark.parametrize("make", [make_topic, make_queue])
async def test_the_last_message_is_acknowledged_though_nothing_comes_after_it(
    make: Callable[[], Topic | Queue], embedded_bus: EmbeddedBus
) -> None:
    channel, recorder = make(), Recorder()
    subscription = Subscription("reader", channel)
    await embedded_bus.declare_channels([channel], [subscription])
    async with run_consumers(embedded_bus, (subscription, recorder.process_batch)):
        await embedded_bus.publish([make_outgoing(channel, 0, "k")])
        await wait_until(lambda: has_at_least(recorder, 1))
        await wait_until(lambda: _has_no_lag(embedded_bus, subscription))


async def _has_no_lag(bus: EmbeddedBus, subscription: Subscription) -> bool:
    return (await bus.measure_lag([subscription]))[subscription.name] == 0
