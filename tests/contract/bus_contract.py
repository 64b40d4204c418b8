"""The promise of the bus as tests, inherited once per transport: a transport adds only the fixture `bus`."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from uuid import UUID

import orjson
import pytest

from caravan.bus import DONE, BatchHandler, Bus, DeadLetter, HandlingResult, IncomingMessage, Result, Subscription
from caravan.clock import new_id, utc_now
from caravan.messages import (
    MAX_BYTES,
    Command,
    Event,
    Exchange,
    MalformedMessage,
    OutgoingMessage,
    Queue,
    RetryPolicy,
    Topic,
    decode_message,
    encode_message,
)
from tests.support.shop import wait_until


class Ping(Command):
    number: int


class Happened(Event):
    number: int


class Later(Event):
    number: int


QUICK = RetryPolicy(delays=(0.05, 0.05))
WAIT_SECONDS = 30
"""A group of three readers takes a few seconds to form."""


def make_topic(retry: RetryPolicy = QUICK) -> Topic:
    return Topic(f"topic-{new_id()}", owner="test", events=(Happened, Later), key="id", purpose="test", retry=retry)


def make_queue(retry: RetryPolicy = QUICK) -> Queue:
    return Queue(f"test.queue-{new_id()}", owner="test", commands=(Ping,), key="id", purpose="test", retry=retry)


def make_outgoing(
    channel: Topic | Queue | Exchange, number: int, key: str, identifier: UUID | None = None
) -> OutgoingMessage:
    message = Ping(number=number) if isinstance(channel, Queue) else Happened(number=number)
    return encode_message(
        message, channel, key=key, source="test", time=utc_now(), traceparent=None, actor=None, message_id=identifier
    )


def make_raw_outgoing(channel: Topic | Queue, key: str, body: bytes) -> OutgoingMessage:
    """As a foreign producer might send it."""
    return OutgoingMessage("queue" if isinstance(channel, Queue) else "topic", channel.name, "", key, new_id(), body)


def read_message_number(incoming: IncomingMessage | DeadLetter) -> int:
    return int(orjson.loads(incoming.body)["data"]["number"])


class Recorder:
    """A handler that notes what it saw; `verdict` decides."""

    def __init__(self, decide: Callable[[IncomingMessage], HandlingResult] = lambda _: DONE) -> None:
        self.messages: list[IncomingMessage] = []
        self.numbers_by_key: dict[str, list[int]] = defaultdict(list)
        self.decide = decide

    async def process_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        results = []
        blocked_keys: set[str] = set()
        for incoming in batch:
            if incoming.key in blocked_keys:
                results.append(HandlingResult(Result.BLOCKED))
                continue
            self.messages.append(incoming)
            outcome = self.decide(incoming)
            results.append(outcome)
            if outcome.result is Result.DONE:
                self.numbers_by_key[incoming.key].append(read_message_number(incoming))
            elif outcome.result is Result.RETRY:
                blocked_keys.add(incoming.key)
        return results

    async def decode_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        """As the inbox does: what can't be read is dead at once."""
        results = [DONE] * len(batch)
        for index, incoming in enumerate(batch):
            try:
                if not incoming.key:
                    raise MalformedMessage("no key")
                decode_message(incoming.body, {Ping.type: Ping, Happened.type: Happened})
                self.numbers_by_key[incoming.key].append(read_message_number(incoming))
            except MalformedMessage as error:
                results[index] = HandlingResult(Result.DEAD, str(error))
        return results

    def make_counter(self) -> Callable[[], Awaitable[int]]:
        async def count_numbers() -> int:
            return sum(len(numbers) for numbers in self.numbers_by_key.values())

        return count_numbers


@asynccontextmanager
async def run_consumers(bus: Bus, *readers: tuple[Subscription, BatchHandler]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(bus.consume(subscription, process)) for subscription, process in readers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class BusContract:
    open_bus: Callable[[], AbstractAsyncContextManager[Bus]]
    """Another process's view of the same broker: a bus of its own."""
    channel_kinds: tuple[str, ...] = ("topic", "queue", "exchange")
    """What the transport carries; the cases of others are not its own."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "channel" in metafunc.fixturenames:
            metafunc.parametrize(
                "channel", [kind for kind in ("topic", "queue") if kind in self.channel_kinds], indirect=True
            )

    @pytest.fixture
    def channel(self, request: pytest.FixtureRequest) -> Topic | Queue:
        return make_topic() if request.param == "topic" else make_queue()

    async def _declare_reader(self, bus: Bus, channel: Topic | Queue, service: str = "reader") -> Subscription:
        subscription = Subscription(service, channel, batch=20)
        await bus.declare_channels([channel], [subscription])
        return subscription

    async def test_every_message_arrives_and_each_key_keeps_its_order(self, bus: Bus, channel: Topic | Queue) -> None:
        reader, recorder = await self._declare_reader(bus, channel), Recorder()
        async with run_consumers(bus, (reader, recorder.process_batch)):
            for start in range(0, 300, 50):
                await bus.publish(
                    [make_outgoing(channel, number, f"key-{number % 7}") for number in range(start, start + 50)]
                )
            await wait_until(lambda: has_at_least(recorder, 300))
        for numbers in recorder.numbers_by_key.values():
            assert numbers == sorted(numbers)

    async def test_a_failing_message_is_tried_again_and_not_overtaken_by_its_key(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        reader = await self._declare_reader(bus, channel)
        recorder = Recorder(
            lambda i: HandlingResult(Result.RETRY, "not yet") if read_message_number(i) == 0 and i.attempt < 3 else DONE
        )
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await bus.publish(
                [make_outgoing(channel, number, "slow" if number < 5 else "other") for number in range(10)]
            )
            await wait_until(lambda: has_at_least(recorder, 10))
        assert recorder.numbers_by_key["slow"] == [0, 1, 2, 3, 4]
        assert [i.attempt for i in recorder.messages if read_message_number(i) == 0] == [1, 2, 3]

    async def test_a_waiting_key_does_not_hold_up_others(self, bus: Bus, channel: Topic | Queue) -> None:
        channel = replace(
            channel, retry=RetryPolicy((3.0,))
        )  # long enough for a busy machine to do the others meanwhile
        reader = await self._declare_reader(bus, channel)
        order: list[int] = []

        def decide(incoming: IncomingMessage) -> HandlingResult:
            order.append(read_message_number(incoming))
            return (
                HandlingResult(Result.RETRY, "down")
                if read_message_number(incoming) == 0 and incoming.attempt == 1
                else DONE
            )

        recorder = Recorder(decide)
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await bus.publish(
                [make_outgoing(channel, number, "bad" if number == 0 else f"good-{number}") for number in range(5)]
            )
            await wait_until(lambda: has_at_least(recorder, 5))
        assert order[-1] == 0, "the others were done before the failing one's second attempt"

    async def test_used_up_attempts_end_in_the_dead_letters_and_the_key_goes_on(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        reader = await self._declare_reader(bus, channel)
        recorder = Recorder(
            lambda i: HandlingResult(Result.RETRY, "broken for good") if read_message_number(i) == 0 else DONE
        )
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await bus.publish([make_outgoing(channel, number, "key") for number in range(3)])
            await wait_until(lambda: has_at_least(recorder, 2))
            dead_letters = await wait_until(lambda: bus.list_dead_letters([reader]))
        assert recorder.numbers_by_key["key"] == [1, 2]
        assert [
            (dead_letter.reason, dead_letter.key, dead_letter.channel, dead_letter.attempt)
            for dead_letter in dead_letters
        ] == [("broken for good", "key", channel.name, 3)]

    async def test_what_was_held_behind_a_message_given_up_at_once_is_not_overtaken(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        channel = replace(channel, retry=RetryPolicy(()))
        reader = await self._declare_reader(bus, channel)
        recorder = Recorder(
            lambda i: HandlingResult(Result.RETRY, "broken for good") if read_message_number(i) == 0 else DONE
        )
        follows = [make_outgoing(channel, number, "key") for number in (2, 3)]

        async def handle_and_publish(batch: list[IncomingMessage]) -> list[HandlingResult]:
            results = await recorder.process_batch(batch)
            if follows and any(read_message_number(incoming) == 0 for incoming in batch):  # with 1 behind it, mostly
                await bus.publish(follows)
                follows.clear()
            return results

        await bus.publish([make_outgoing(channel, number, "key") for number in (0, 1)])
        async with run_consumers(bus, (reader, handle_and_publish)):
            await wait_until(lambda: has_at_least(recorder, 3), seconds=WAIT_SECONDS)
        assert recorder.numbers_by_key["key"] == [1, 2, 3]

    async def test_what_was_held_behind_a_message_given_up_waits_for_nobody(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        channel = replace(channel, retry=RetryPolicy(()))
        reader = await self._declare_reader(bus, channel)
        recorder = Recorder(
            lambda i: HandlingResult(Result.RETRY, "broken for good") if read_message_number(i) == 0 else DONE
        )
        await bus.publish([make_outgoing(channel, number, "key") for number in range(3)])
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await wait_until(
                lambda: has_at_least(recorder, 2)
            )  # within less than the slow poll of who is told of every message
        assert recorder.numbers_by_key["key"] == [1, 2]

    async def test_a_rejected_message_is_a_dead_letter_at_once_and_can_be_redriven(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        reader = await self._declare_reader(bus, channel)
        refuse = True
        recorder = Recorder(
            lambda i: HandlingResult(Result.DEAD, "poison") if refuse and read_message_number(i) == 1 else DONE
        )
        async with run_consumers(bus, (reader, recorder.process_batch)):
            message = [make_outgoing(channel, number, f"key-{number}") for number in range(3)]
            await bus.publish(message)
            dead_letters = await wait_until(lambda: bus.list_dead_letters([reader]))
            await wait_until(lambda: has_at_least(recorder, 2))
            refuse = False
            assert await bus.redrive(dead_letters[:1]) == 1
            await wait_until(lambda: has_at_least(recorder, 3))
        assert dead_letters[0].body == message[1].body, "redriven with its message id"
        assert await bus.list_dead_letters([reader]) == []

    async def test_nothing_is_lost_when_a_batch_is_cut_off(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._declare_reader(bus, channel)
        is_cut_off = asyncio.Event()

        async def hang_forever(_: list[IncomingMessage]) -> list[HandlingResult]:
            is_cut_off.set()
            await asyncio.Event().wait()
            return []

        async with run_consumers(bus, (reader, hang_forever)):
            await bus.publish([make_outgoing(channel, number, "key") for number in range(5)])
            await asyncio.wait_for(is_cut_off.wait(), 5)
        recorder = Recorder()
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await wait_until(lambda: has_at_least(recorder, 5))
        assert recorder.numbers_by_key["key"] == [0, 1, 2, 3, 4]

    async def test_trouble_of_the_infrastructure_costs_no_attempt(self, bus: Bus, channel: Topic | Queue) -> None:
        reader, recorder, failures_left = await self._declare_reader(bus, channel), Recorder(), 3

        async def fail_then_handle(batch: list[IncomingMessage]) -> list[HandlingResult]:
            nonlocal failures_left
            if failures_left:
                failures_left -= 1
                raise ConnectionError("the database is away")
            return await recorder.process_batch(batch)

        async with run_consumers(bus, (reader, fail_then_handle)):
            await bus.publish([make_outgoing(channel, 7, "key")])
            await wait_until(lambda: has_at_least(recorder, 1))
        assert [i.attempt for i in recorder.messages] == [1]

    async def test_every_group_of_a_topic_reads_all_from_the_first_message(self, bus: Bus) -> None:
        if "topic" not in self.channel_kinds:
            pytest.skip(f"{type(self).__name__} carries no topic")
        log = make_topic()
        early = await self._declare_reader(bus, log, "early")
        await bus.publish([make_outgoing(log, number, "key") for number in range(20)])
        late = await self._declare_reader(bus, log, "late")
        first, second = Recorder(), Recorder()
        async with run_consumers(bus, (early, first.process_batch), (late, second.process_batch)):
            await wait_until(lambda: has_at_least(first, 20))
            await wait_until(lambda: has_at_least(second, 20))
        assert first.numbers_by_key == second.numbers_by_key

    async def test_an_exchange_gives_each_bound_queue_its_own_copy_by_routing_key(self, bus: Bus) -> None:
        if "exchange" not in self.channel_kinds:
            pytest.skip(f"{type(self).__name__} carries no exchange")
        exchange = Exchange(
            f"exchange-{new_id()}",
            owner="test",
            routes={"thing.happened": Happened, "thing.later": Later},
            key="id",
            purpose="test",
        )
        everything = Subscription("one", exchange.bind("one", "thing.*"))
        only_later = Subscription("two", exchange.bind("two", "*.later"))
        await bus.declare_channels([exchange], [everything, only_later])
        first, second = Recorder(), Recorder()
        async with run_consumers(bus, (everything, first.process_batch), (only_later, second.process_batch)):
            later = encode_message(
                Later(number=2), exchange, key="key", source="test", time=utc_now(), traceparent=None, actor=None
            )
            await bus.publish([make_outgoing(exchange, 1, "key"), later])
            await wait_until(lambda: has_at_least(first, 2))
            await wait_until(lambda: has_at_least(second, 1))
        assert first.numbers_by_key["key"] == [1, 2]
        assert second.numbers_by_key["key"] == [2]

    async def test_a_reader_that_dies_in_a_handler_leaves_its_messages_to_the_next_in_their_order(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        """Message 0 has failed and waits for its second attempt, 1 and 2 are behind it, 3 comes after the death."""
        slow = make_topic(SLOW) if isinstance(channel, Topic) else make_queue(SLOW)
        reader = await self._declare_reader(bus, slow)
        doomed = Recorder(lambda i: HandlingResult(Result.RETRY, "not yet"))
        async with self.open_bus() as other, run_consumers(other, (reader, doomed.process_batch)):
            await bus.publish([make_outgoing(slow, number, "key") for number in range(3)])
            await wait_until(lambda: has_recorded(doomed, 1), seconds=WAIT_SECONDS)
        await bus.publish([make_outgoing(slow, 3, "key")])
        recorder = Recorder()
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await wait_until(lambda: has_at_least(recorder, 4), seconds=WAIT_SECONDS)
        assert recorder.numbers_by_key["key"] == [0, 1, 2, 3]

    async def test_ten_thousand_messages_reach_a_new_group_in_the_order_of_their_keys_over_three_readers(
        self, bus: Bus
    ) -> None:
        if "topic" not in self.channel_kinds:
            pytest.skip(f"{type(self).__name__} carries no topic")
        log = make_topic()
        reader = Subscription("late", log, batch=100)
        await bus.declare_channels([log], [])
        for start in range(0, 10_000, 500):
            await bus.publish(
                [make_outgoing(log, number, f"key-{number % 97}") for number in range(start, start + 500)]
            )
        await bus.declare_channels([log], [reader])
        recorder = Recorder()
        async with self.open_bus() as second, self.open_bus() as third, AsyncExitStack() as stack:
            for one in (bus, second, third):
                await stack.enter_async_context(run_consumers(one, (reader, recorder.process_batch)))
            await wait_until(lambda: has_distinct(recorder, 10_000), seconds=60)
        for numbers in recorder.numbers_by_key.values():
            assert drop_repetitions(numbers) == sorted(set(numbers))

    async def test_no_key_is_overtaken_while_readers_come_and_go(self, bus: Bus, channel: Topic | Queue) -> None:
        """Some messages fail at first, so that there is something waiting whenever a reader leaves."""
        reader, recorder = (
            await self._declare_reader(bus, channel),
            Recorder(lambda i: HandlingResult(Result.RETRY, "x") if is_unlucky(i) else DONE),
        )
        async with self.open_bus() as second, run_consumers(bus, (reader, recorder.process_batch)):
            for start in range(0, 300, 100):
                await bus.publish(
                    [make_outgoing(channel, number, f"key-{number % 7}") for number in range(start, start + 100)]
                )
                async with run_consumers(second, (reader, recorder.process_batch)):
                    await wait_until(lambda: has_distinct(recorder, start + 60), seconds=WAIT_SECONDS)  # noqa: B023 - awaited here
            await wait_until(lambda: has_distinct(recorder, 300), seconds=WAIT_SECONDS)
        for numbers in recorder.numbers_by_key.values():
            assert drop_repetitions(numbers) == sorted(set(numbers))

    async def test_poison_of_five_kinds_lands_in_the_dead_letters_and_the_good_around_it_is_done(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        reader, recorder = await self._declare_reader(bus, channel), Recorder()
        envelope = orjson.loads(make_outgoing(channel, 0, "x").body)
        poison = {
            "bad-json": b'{"type": "test.Ping", "data": {',
            "unknown-type": orjson.dumps({**envelope, "type": "somebody.Else"}),
            "newer-version": orjson.dumps({**envelope, "dataversion": 99}),
            "ten-megabytes": b'{"data": "' + b"x" * (10 * 1024 * 1024) + b'"}',
            "": orjson.dumps(envelope),
        }
        async with run_consumers(bus, (reader, recorder.decode_batch)):
            for index, (key, body) in enumerate(poison.items()):
                await bus.publish(
                    [
                        make_outgoing(channel, number, f"good-{number % 5}")
                        for number in range(index * 200, index * 200 + 200)
                    ]
                )
                await self.send_raw(bus, make_raw_outgoing(channel, key, body))
            await wait_until(lambda: has_at_least(recorder, 1000), seconds=WAIT_SECONDS)
            dead_letters = {
                dead_letter.key: dead_letter
                for dead_letter in await wait_until(
                    lambda: fetch_dead_letters(bus, reader, len(poison)), seconds=WAIT_SECONDS
                )
            }
        assert {
            key: dead_letter.reason.split(":")[0].split(" is newer")[0] for key, dead_letter in dead_letters.items()
        } == {
            "bad-json": "not JSON",
            "unknown-type": "unknown type 'somebody.Else'",
            "newer-version": f"{envelope['type']} version 99",
            "ten-megabytes": f"{len(poison['ten-megabytes'])} bytes, over the limit of {MAX_BYTES}",
            "": "no key",
        }
        assert {dead_letter.channel for dead_letter in dead_letters.values()} == {channel.name}
        assert dead_letters["ten-megabytes"].size == len(poison["ten-megabytes"])

    async def test_what_lines_up_behind_a_message_does_not_put_off_its_next_attempt(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        slow = (
            make_topic(RetryPolicy(delays=(1.5,)))
            if isinstance(channel, Topic)
            else make_queue(RetryPolicy(delays=(1.5,)))
        )
        reader = await self._declare_reader(bus, slow)
        times: list[float] = []

        def verdict(incoming: IncomingMessage) -> HandlingResult:
            times.append(time.monotonic())
            return HandlingResult(Result.RETRY, "broken") if len(times) == 1 else DONE

        seen = Recorder(verdict)
        async with run_consumers(bus, (reader, seen.process_batch)):
            await bus.publish([make_outgoing(slow, 0, "k")])
            await wait_until(lambda: has_recorded(seen, 1), seconds=WAIT_SECONDS)
            number = 0
            while len(times) == 1 and time.monotonic() < times[0] + 4.5:
                number += 1
                await bus.publish([make_outgoing(slow, number, "k")])
                with suppress(AssertionError):
                    await wait_until(lambda: has_recorded(seen, 2), seconds=0.3)
            await wait_until(lambda: has_at_least(seen, number + 1), seconds=WAIT_SECONDS)
        assert seen.numbers_by_key["k"] == list(range(number + 1))
        assert times[1] - times[0] < 1.5 + LATE

    async def test_retries_come_at_the_stated_delays_and_delay_nobody_else(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        retry = RetryPolicy(delays=(0.3, 0.9))
        slow = make_topic(retry) if isinstance(channel, Topic) else make_queue(retry)
        reader = await self._declare_reader(bus, slow)
        times: list[float] = []
        latency: list[float] = []
        sent_at: dict[int, float] = {}

        def decide(incoming: IncomingMessage) -> HandlingResult:
            now = time.monotonic()
            if incoming.key == "bad":
                times.append(now)
                return HandlingResult(Result.RETRY, "broken")
            latency.append(now - sent_at[read_message_number(incoming)])
            return DONE

        recorder = Recorder(decide)
        async with run_consumers(bus, (reader, recorder.process_batch)):
            sent_at[0] = time.monotonic()
            await bus.publish([make_outgoing(slow, 0, "warm")])
            await wait_until(lambda: has_at_least(recorder, 1), seconds=WAIT_SECONDS)
            await bus.publish([make_outgoing(slow, 1, "bad")])
            for number in range(2, 60):
                sent_at[number] = time.monotonic()
                await bus.publish([make_outgoing(slow, number, f"good-{number}")])
            await wait_until(lambda: fetch_dead_letters(bus, reader, 1), seconds=WAIT_SECONDS)
            await wait_until(lambda: has_at_least(recorder, 59), seconds=WAIT_SECONDS)
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert len(gaps) == 2 and 0.29 <= gaps[0] < 0.29 + LATE and 0.89 <= gaps[1] < 0.89 + LATE, gaps
        assert sorted(latency[1:])[len(latency) // 2] < 0.3, "half of the others took less than the first delay"

    async def test_stopping_finishes_what_is_in_hand_and_acknowledges_it(self, bus: Bus) -> None:
        """Three handlers are in flight when the process is told to stop."""
        channels = [make_topic() if "topic" in self.channel_kinds else make_queue() for _ in range(3)]
        readers = [await self._declare_reader(bus, channel) for channel in channels]
        recorder = Recorder()
        begun, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def handle_slowly(batch: list[IncomingMessage]) -> list[HandlingResult]:
            begun.release()
            await go_on.wait()
            return await recorder.process_batch(batch)

        async with self.open_bus() as stopped:
            tasks = [asyncio.create_task(stopped.consume(reader, handle_slowly)) for reader in readers]
            for channel in channels:
                await bus.publish([make_outgoing(channel, 1, channel.name)])
            async with asyncio.timeout(WAIT_SECONDS):
                for _ in channels:
                    await begun.acquire()
            await stopped.stop()
            go_on.set()
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.gather(*tasks)
        assert all(recorder.numbers_by_key[channel.name] == [1] for channel in channels)
        assert set((await bus.measure_lag(readers)).values()) == {0}

    async def test_looking_at_dead_letters_and_restarting_readers_never_loses_anything(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        """A broker that counts deliveries must not count these: 25 looks, 25 readers that die with a message in
        hand.
        """
        reader = await self._declare_reader(bus, channel)
        recorder_of_dead = Recorder(
            lambda i: HandlingResult(Result.DEAD, "poison") if read_message_number(i) < 3 else DONE
        )
        async with run_consumers(bus, (reader, recorder_of_dead.process_batch)):
            await bus.publish([make_outgoing(channel, number, f"key-{number}") for number in range(4)])
            await wait_until(lambda: fetch_dead_letters(bus, reader, 3), seconds=WAIT_SECONDS)
        for _ in range(25):
            assert sorted(
                read_message_number(dead_letter) for dead_letter in await bus.list_dead_letters([reader])
            ) == [0, 1, 2]
        await bus.publish([make_outgoing(channel, 9, "key")])
        if isinstance(channel, Queue):  # a group of a topic takes seconds to notice each death
            for _ in range(25):
                await self._cancel_with_message_in_hand(bus, reader)
        recorder = Recorder()
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await wait_until(lambda: has_at_least(recorder, 1), seconds=WAIT_SECONDS)
        assert recorder.numbers_by_key["key"] == [9]

    async def _cancel_with_message_in_hand(self, bus: Bus, reader: Subscription) -> None:
        message_taken = asyncio.Event()

        async def hang_forever(_: list[IncomingMessage]) -> list[HandlingResult]:
            message_taken.set()
            await asyncio.Event().wait()
            return []

        async with run_consumers(bus, (reader, hang_forever)):
            await asyncio.wait_for(message_taken.wait(), WAIT_SECONDS)

    async def test_letters_of_one_message_and_of_none_are_told_apart_and_redriven_in_order(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        """The same message twice, and two without a key: four letters; some are discarded, the others come again in the
        order they died.
        """
        reader = await self._declare_reader(bus, channel)
        broken = True
        recorder = Recorder(lambda _: HandlingResult(Result.DEAD, "poison") if broken else DONE)
        twice = make_outgoing(channel, 1, "key")
        async with run_consumers(bus, (reader, recorder.process_batch)):
            for message in (
                twice,
                twice,
                *(make_raw_outgoing(channel, "", make_outgoing(channel, number, "").body) for number in (7, 8)),
            ):
                await self.send_raw(bus, message)
            await bus.publish([make_outgoing(channel, number, "key") for number in (2, 3)])
            dead_letters = await wait_until(lambda: fetch_dead_letters(bus, reader, 6), seconds=WAIT_SECONDS)
            assert len({dead_letter.id for dead_letter in dead_letters}) == 6
            duplicate = [
                dead_letter
                for dead_letter in dead_letters
                if dead_letter.key == "key" and read_message_number(dead_letter) == 1
            ][1]
            assert await bus.discard([duplicate]) == 1
            broken = False
            remaining = await bus.list_dead_letters([reader], preview=10)
            assert len(remaining) == 5
            assert {len(dead_letter.body) for dead_letter in remaining} == {10}
            assert next(dead_letter for dead_letter in remaining if dead_letter.key == "key").size == len(twice.body)
            assert await bus.redrive(remaining) == 5
            await wait_until(lambda: has_at_least(recorder, 5), seconds=WAIT_SECONDS)
        assert recorder.numbers_by_key["key"] == [1, 2, 3]
        assert sorted(recorder.numbers_by_key[""]) == [7, 8]
        assert [i.attempt for i in recorder.messages if read_message_number(i) == 2] == [1, 1]
        assert await bus.list_dead_letters([reader]) == []

    async def send_raw(self, bus: Bus, message: OutgoingMessage) -> None:
        """A transport whose own producer refuses what a foreign one may send has another way."""
        await bus.publish([message])

    async def test_what_waits_is_counted(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._declare_reader(bus, channel)
        await bus.publish([make_outgoing(channel, number, "key") for number in range(4)])
        assert (await wait_until(lambda: lag_of(bus, reader), seconds=WAIT_SECONDS)) == {reader.name: 4}


SLOW = RetryPolicy(delays=(3.0, 3.0))
LATE = 0.6
"""Seconds that a busy machine may be late."""


def is_unlucky(incoming: IncomingMessage) -> bool:
    return incoming.attempt == 1 and read_message_number(incoming) % 20 == 0


def drop_repetitions(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


async def lag_of(bus: Bus, reader: Subscription) -> dict[str, int] | None:
    """None while the broker can't be asked: one that has just begun knows no coordinator of a group yet."""
    try:
        return await bus.measure_lag([reader])
    except ConnectionError:
        return None


async def has_recorded(recorder: Recorder, count: int) -> bool:
    return len(recorder.messages) >= count


async def has_distinct(recorder: Recorder, count: int) -> bool:
    return sum(len(set(numbers)) for numbers in recorder.numbers_by_key.values()) >= count


async def fetch_dead_letters(bus: Bus, reader: Subscription, count: int) -> list[DeadLetter]:
    dead_letters = await bus.list_dead_letters([reader])
    return dead_letters if len(dead_letters) >= count else []


async def has_at_least(recorder: Recorder, count: int) -> bool:
    return await recorder.make_counter()() >= count
