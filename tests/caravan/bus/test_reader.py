"""What becomes of a batch: each message is acknowledged, tried again in its order, or dead-lettered, and nothing counts
while the infrastructure is unavailable.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.bus import DONE, BatchHandler, HandlingResult, IncomingMessage, Result, Subscription
from caravan.bus.reader import Reader
from caravan.messages import RetryPolicy
from tests.contract.bus_messages import make_queue

RETRY = HandlingResult(Result.RETRY, "failed")
DEAD = HandlingResult(Result.DEAD, "rejected")
BLOCKED = HandlingResult(Result.BLOCKED)


class NotOurs(Exception):
    """The batch is another reader's by now."""


class FakeReader(Reader):
    """A transport in memory."""

    def __init__(self, handler: BatchHandler, *, linger: float = 0.0) -> None:
        queue = make_queue(RetryPolicy(delays=(10.0, 20.0)))
        super().__init__(Subscription("reader", queue, batch=3, linger=linger), handler)
        self.acknowledged: list[IncomingMessage] = []
        self.dead: list[tuple[IncomingMessage, str]] = []
        self.attempts: list[tuple[IncomingMessage, float]] = []
        self.is_ours = True

    async def acknowledge_messages(self, done: Sequence[IncomingMessage]) -> None:
        self.acknowledged += done

    async def dead_letter(self, incoming: IncomingMessage, reason: str) -> None:
        self.dead.append((incoming, reason))

    async def record_attempt(self, incoming: IncomingMessage, delay: float) -> None:
        self.attempts.append((incoming, delay))

    def check_ownership(self) -> None:
        if not self.is_ours:
            raise NotOurs


def answer_with(*results: HandlingResult) -> BatchHandler:
    async def handle_batch(batch: list[IncomingMessage]) -> list[HandlingResult]:
        return list(results[: len(batch)])

    return handle_batch


def make_message(key: str, number: int, attempt: int = 1) -> IncomingMessage:
    return IncomingMessage(key, b"%d" % number, attempt)


async def test_each_result_leads_to_its_own_end() -> None:
    reader = FakeReader(answer_with(DONE, DEAD, RETRY))
    done, rejected, failed = (make_message(key, 0) for key in ("a", "b", "c"))
    await reader.handle_batch([done, rejected, failed])
    assert reader.acknowledged == [done]
    assert reader.dead == [(rejected, "rejected")]
    assert reader.attempts == [(failed._replace(attempt=2), 10.0)]


@pytest.mark.parametrize(("attempt", "delay"), [(1, 10.0), (2, 20.0), (3, None)])
async def test_the_delay_is_that_of_the_attempt_and_after_the_last_it_is_a_dead_letter(
    attempt: int, delay: float | None
) -> None:
    reader = FakeReader(answer_with(RETRY))
    message = make_message("k", 0, attempt)
    await reader.handle_batch([message])
    assert [given for _, given in reader.attempts] == ([delay] if delay else [])
    assert reader.dead == ([] if delay else [(message, "failed")])
    assert len(reader.retry_buffer) == (1 if delay else 0)


async def test_what_is_blocked_waits_behind_the_failed_and_keeps_its_attempts() -> None:
    reader = FakeReader(answer_with(RETRY, BLOCKED, BLOCKED))
    messages = [make_message("k", number) for number in range(3)]
    await reader.handle_batch(messages)
    now = asyncio.get_running_loop().time()
    assert reader.retry_buffer.pop_due(now + 9, 10) == []
    assert reader.retry_buffer.pop_due(now + 11, 10) == [messages[0]._replace(attempt=2), *messages[1:]]


async def test_what_was_blocked_by_a_message_given_up_is_next_at_once() -> None:
    reader = FakeReader(answer_with(DEAD, BLOCKED))
    first, second = make_message("k", 0), make_message("k", 1)
    await reader.handle_batch([first, second])
    assert reader.retry_buffer.pop_due(asyncio.get_running_loop().time(), 10) == [second]


def fail_first(on_failure: Callable[[], object] = lambda: None) -> tuple[BatchHandler, list[list[IncomingMessage]]]:
    """A handler whose infrastructure is unavailable once, and the batches that it was given."""
    batches: list[list[IncomingMessage]] = []

    async def handle_batch(batch: list[IncomingMessage]) -> list[HandlingResult]:
        batches.append(list(batch))
        if len(batches) == 1:
            on_failure()
            raise ConnectionError("no database")
        return [DONE] * len(batch)

    return handle_batch, batches


async def test_while_the_infrastructure_is_unavailable_the_same_batch_comes_again_and_no_attempt_counts() -> None:
    handler, batches = fail_first()
    reader, message = FakeReader(handler), make_message("k", 0)
    await reader.handle_batch([message])
    assert batches == [[message], [message]]
    assert (reader.acknowledged, reader.attempts) == ([message], [])


async def test_a_reader_that_stops_meanwhile_leaves_the_batch_to_the_next() -> None:
    def stop_reader() -> None:
        reader.stop()

    handler, batches = fail_first(stop_reader)
    reader = FakeReader(handler)
    await reader.handle_batch([make_message("k", 0)])
    assert len(batches) == 1
    assert (reader.acknowledged, reader.dead, reader.attempts) == ([], [], [])


async def test_a_batch_that_is_no_longer_ours_is_not_acknowledged() -> None:
    async def lose_ownership(batch: list[IncomingMessage]) -> list[HandlingResult]:
        reader.is_ours = False
        return [DONE] * len(batch)

    reader = FakeReader(lose_ownership)
    with pytest.raises(NotOurs):
        await reader.handle_batch([make_message("k", 0)])
    assert reader.acknowledged == []


@pytest.mark.parametrize(("count", "is_stopping", "rests"), [(1, False, True), (3, False, False), (1, True, False)])
async def test_only_a_batch_that_is_not_full_lingers_and_only_while_nobody_stops(
    count: int, is_stopping: bool, rests: bool
) -> None:
    linger = 0.05 if rests else 30.0
    reader = FakeReader(answer_with(DONE, DONE, DONE), linger=linger)
    reader.is_stopping = is_stopping
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    async with asyncio.timeout(10):
        await reader.handle_batch([make_message(f"{number}", number) for number in range(count)])
    assert (loop.time() - started_at >= linger - 0.002) is rests


async def test_a_wait_ends_with_what_comes_with_its_time_and_when_woken_ever_after() -> None:
    reader, coming = FakeReader(answer_with()), asyncio.get_running_loop().create_future()
    coming.set_result("message")
    assert await reader.wait_for(coming, 5) == "message"
    assert await reader.wait_for(asyncio.Event().wait(), 0.001) is None
    waiting = asyncio.create_task(reader.wait_for(asyncio.Event().wait()))
    await asyncio.sleep(0)
    reader.wake()
    async with asyncio.timeout(5):
        assert await waiting is None
        assert await reader.wait_for(asyncio.Event().wait()) is None


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=8),
    st.dictionaries(st.tuples(st.integers(0, 7), st.integers(1, 3)), st.sampled_from([RETRY, DEAD]), max_size=8),
)
async def test_no_message_ever_overtakes_an_earlier_one_of_its_key(
    keys: list[str], failures: dict[tuple[int, int], HandlingResult]
) -> None:
    """Whatever fails, however often, and however batches are cut."""

    async def handle_batch(batch: list[IncomingMessage]) -> list[HandlingResult]:
        results: list[HandlingResult] = []
        failed_keys: set[str] = set()
        for incoming in batch:
            if incoming.key in failed_keys:
                results.append(BLOCKED)
                continue
            result = failures.get((int(incoming.body), incoming.attempt), DONE)
            results.append(result)
            if result is not DONE:
                failed_keys.add(incoming.key)
            if result is not RETRY or incoming.attempt == 3:
                ended[incoming.key].append(int(incoming.body))
        return results

    ended: dict[str, list[int]] = defaultdict(list)
    reader = FakeReader(handle_batch)
    arriving = [make_message(key, number) for number, key in enumerate(keys)]
    while arriving or len(reader.retry_buffer):
        batch = reader.retry_buffer.pop_due(float("inf"), 3)
        while arriving and len(batch) < 3:
            incoming = arriving.pop(0)
            if not reader.retry_buffer.enqueue_behind(incoming):
                batch.append(incoming)
        await reader.handle_batch(batch)
    assert ended == {key: [n for n, own in enumerate(keys) if own == key] for key in set(keys)}
    assert len(reader.acknowledged) + len(reader.dead) == len(keys)
