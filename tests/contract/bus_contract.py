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

from caravan.bus import DONE, Bus, DeadLetter, Incoming, Outcome, Process, Result, Subscription
from caravan.clock import new_id, utc_now
from caravan.messages import MAX_BYTES, Command, Event, Exchange, Malformed, Outgoing, Queue, Retry, Topic, decode, encode
from tests.shop import until


class Ping(Command):
    number: int


class Happened(Event):
    number: int


class Later(Event):
    number: int


QUICK = Retry(delays=(0.05, 0.05))
WAIT_SECONDS = 30
"""A group of three readers takes a few seconds to form."""


def topic(retry: Retry = QUICK) -> Topic:
    return Topic(f"topic-{new_id()}", owner="test", events=(Happened, Later), key="id", purpose="test", retry=retry)


def queue(retry: Retry = QUICK) -> Queue:
    return Queue(f"test.queue-{new_id()}", owner="test", commands=(Ping,), key="id", purpose="test", retry=retry)


def outgoing(channel: Topic | Queue | Exchange, number: int, key: str, identifier: UUID | None = None) -> Outgoing:
    message = Ping(number=number) if isinstance(channel, Queue) else Happened(number=number)
    return encode(message, channel, key=key, source="test", time=utc_now(), traceparent=None, actor=None, identifier=identifier)


def raw(channel: Topic | Queue, key: str, body: bytes) -> Outgoing:
    """As a foreign producer might send it."""
    return Outgoing("queue" if isinstance(channel, Queue) else "topic", channel.name, "", key, new_id(), body)


def number_of(incoming: Incoming | DeadLetter) -> int:
    return int(orjson.loads(incoming.body)["data"]["number"])


class Recorder:
    """A handler that notes what it saw; `verdict` decides."""

    def __init__(self, verdict: Callable[[Incoming], Outcome] = lambda _: DONE) -> None:
        self.seen: list[Incoming] = []
        self.done: dict[str, list[int]] = defaultdict(list)
        self.verdict = verdict

    async def process(self, batch: list[Incoming]) -> list[Outcome]:
        outcomes = []
        held: set[str] = set()
        for incoming in batch:
            if incoming.key in held:
                outcomes.append(Outcome(Result.HELD))
                continue
            self.seen.append(incoming)
            outcome = self.verdict(incoming)
            outcomes.append(outcome)
            if outcome.result is Result.DONE:
                self.done[incoming.key].append(number_of(incoming))
            elif outcome.result is Result.RETRY:
                held.add(incoming.key)
        return outcomes

    async def decoding(self, batch: list[Incoming]) -> list[Outcome]:
        """As the inbox does: what can't be read is dead at once."""
        outcomes = [DONE] * len(batch)
        for place, incoming in enumerate(batch):
            try:
                if not incoming.key:
                    raise Malformed("no key")
                decode(incoming.body, {Ping.type: Ping, Happened.type: Happened})
                self.done[incoming.key].append(number_of(incoming))
            except Malformed as error:
                outcomes[place] = Outcome(Result.DEAD, str(error))
        return outcomes

    def count(self) -> Callable[[], Awaitable[int]]:
        async def total() -> int:
            return sum(len(numbers) for numbers in self.done.values())

        return total


@asynccontextmanager
async def consuming(bus: Bus, *readers: tuple[Subscription, Process]) -> AsyncIterator[None]:
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
    kinds: tuple[str, ...] = ("topic", "queue", "exchange")
    """What the transport carries; the cases of others are not its own."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "channel" in metafunc.fixturenames:
            metafunc.parametrize("channel", [kind for kind in ("topic", "queue") if kind in self.kinds], indirect=True)

    @pytest.fixture
    def channel(self, request: pytest.FixtureRequest) -> Topic | Queue:
        return topic() if request.param == "topic" else queue()

    async def _reader(self, bus: Bus, channel: Topic | Queue, service: str = "reader") -> Subscription:
        subscription = Subscription(service, channel, batch=20)
        await bus.declare([channel], [subscription])
        return subscription

    async def test_every_message_arrives_and_each_key_keeps_its_order(self, bus: Bus, channel: Topic | Queue) -> None:
        reader, seen = await self._reader(bus, channel), Recorder()
        async with consuming(bus, (reader, seen.process)):
            for start in range(0, 300, 50):
                await bus.publish([outgoing(channel, number, f"key-{number % 7}") for number in range(start, start + 50)])
            await until(lambda: at_least(seen, 300))
        for numbers in seen.done.values():
            assert numbers == sorted(numbers)

    async def test_a_failing_message_is_tried_again_and_not_overtaken_by_its_key(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._reader(bus, channel)
        seen = Recorder(lambda i: Outcome(Result.RETRY, "not yet") if number_of(i) == 0 and i.attempt < 3 else DONE)
        async with consuming(bus, (reader, seen.process)):
            await bus.publish([outgoing(channel, number, "slow" if number < 5 else "other") for number in range(10)])
            await until(lambda: at_least(seen, 10))
        assert seen.done["slow"] == [0, 1, 2, 3, 4]
        assert [i.attempt for i in seen.seen if number_of(i) == 0] == [1, 2, 3]

    async def test_a_waiting_key_does_not_hold_up_others(self, bus: Bus, channel: Topic | Queue) -> None:
        channel = replace(channel, retry=Retry((3.0,)))  # long enough for a busy machine to do the others meanwhile
        reader = await self._reader(bus, channel)
        order: list[int] = []

        def verdict(incoming: Incoming) -> Outcome:
            order.append(number_of(incoming))
            return Outcome(Result.RETRY, "down") if number_of(incoming) == 0 and incoming.attempt == 1 else DONE

        seen = Recorder(verdict)
        async with consuming(bus, (reader, seen.process)):
            await bus.publish([outgoing(channel, number, "bad" if number == 0 else f"good-{number}") for number in range(5)])
            await until(lambda: at_least(seen, 5))
        assert order[-1] == 0, "the others were done before the failing one's second attempt"

    async def test_used_up_attempts_end_in_the_dead_letters_and_the_key_goes_on(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._reader(bus, channel)
        seen = Recorder(lambda i: Outcome(Result.RETRY, "broken for good") if number_of(i) == 0 else DONE)
        async with consuming(bus, (reader, seen.process)):
            await bus.publish([outgoing(channel, number, "key") for number in range(3)])
            await until(lambda: at_least(seen, 2))
            letters = await until(lambda: bus.dead_letters([reader]))
        assert seen.done["key"] == [1, 2]
        assert [(letter.reason, letter.key, letter.channel, letter.attempt) for letter in letters] == [
            ("broken for good", "key", channel.name, 3)
        ]

    async def test_what_was_held_behind_a_message_given_up_at_once_is_not_overtaken(self, bus: Bus, channel: Topic | Queue) -> None:
        channel = replace(channel, retry=Retry(()))
        reader = await self._reader(bus, channel)
        seen = Recorder(lambda i: Outcome(Result.RETRY, "broken for good") if number_of(i) == 0 else DONE)
        follows = [outgoing(channel, number, "key") for number in (2, 3)]

        async def process(batch: list[Incoming]) -> list[Outcome]:
            outcomes = await seen.process(batch)
            if follows and any(number_of(incoming) == 0 for incoming in batch):  # with 1 behind it, mostly
                await bus.publish(follows)
                follows.clear()
            return outcomes

        await bus.publish([outgoing(channel, number, "key") for number in (0, 1)])
        async with consuming(bus, (reader, process)):
            await until(lambda: at_least(seen, 3), seconds=WAIT_SECONDS)
        assert seen.done["key"] == [1, 2, 3]

    async def test_what_was_held_behind_a_message_given_up_waits_for_nobody(self, bus: Bus, channel: Topic | Queue) -> None:
        channel = replace(channel, retry=Retry(()))
        reader = await self._reader(bus, channel)
        seen = Recorder(lambda i: Outcome(Result.RETRY, "broken for good") if number_of(i) == 0 else DONE)
        await bus.publish([outgoing(channel, number, "key") for number in range(3)])
        async with consuming(bus, (reader, seen.process)):
            await until(lambda: at_least(seen, 2))  # within less than the slow poll of who is told of every message
        assert seen.done["key"] == [1, 2]

    async def test_a_rejected_message_is_a_dead_letter_at_once_and_can_be_redriven(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._reader(bus, channel)
        refuse = True
        seen = Recorder(lambda i: Outcome(Result.DEAD, "poison") if refuse and number_of(i) == 1 else DONE)
        async with consuming(bus, (reader, seen.process)):
            message = [outgoing(channel, number, f"key-{number}") for number in range(3)]
            await bus.publish(message)
            letters = await until(lambda: bus.dead_letters([reader]))
            await until(lambda: at_least(seen, 2))
            refuse = False
            assert await bus.redrive(letters[:1]) == 1
            await until(lambda: at_least(seen, 3))
        assert letters[0].body == message[1].body, "redriven with its message id"
        assert await bus.dead_letters([reader]) == []

    async def test_nothing_is_lost_when_a_batch_is_cut_off(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._reader(bus, channel)
        cut = asyncio.Event()

        async def hang(_: list[Incoming]) -> list[Outcome]:
            cut.set()
            await asyncio.Event().wait()
            return []

        async with consuming(bus, (reader, hang)):
            await bus.publish([outgoing(channel, number, "key") for number in range(5)])
            await asyncio.wait_for(cut.wait(), 5)
        seen = Recorder()
        async with consuming(bus, (reader, seen.process)):
            await until(lambda: at_least(seen, 5))
        assert seen.done["key"] == [0, 1, 2, 3, 4]

    async def test_trouble_of_the_infrastructure_costs_no_attempt(self, bus: Bus, channel: Topic | Queue) -> None:
        reader, seen, away = await self._reader(bus, channel), Recorder(), 3

        async def process(batch: list[Incoming]) -> list[Outcome]:
            nonlocal away
            if away:
                away -= 1
                raise ConnectionError("the database is away")
            return await seen.process(batch)

        async with consuming(bus, (reader, process)):
            await bus.publish([outgoing(channel, 7, "key")])
            await until(lambda: at_least(seen, 1))
        assert [i.attempt for i in seen.seen] == [1]

    async def test_every_group_of_a_topic_reads_all_from_the_first_message(self, bus: Bus) -> None:
        if "topic" not in self.kinds:
            pytest.skip(f"{type(self).__name__} carries no topic")
        log = topic()
        early = await self._reader(bus, log, "early")
        await bus.publish([outgoing(log, number, "key") for number in range(20)])
        late = await self._reader(bus, log, "late")
        first, second = Recorder(), Recorder()
        async with consuming(bus, (early, first.process), (late, second.process)):
            await until(lambda: at_least(first, 20))
            await until(lambda: at_least(second, 20))
        assert first.done == second.done

    async def test_an_exchange_gives_each_bound_queue_its_own_copy_by_routing_key(self, bus: Bus) -> None:
        if "exchange" not in self.kinds:
            pytest.skip(f"{type(self).__name__} carries no exchange")
        exchange = Exchange(
            f"exchange-{new_id()}", owner="test", routes={"thing.happened": Happened, "thing.later": Later}, key="id", purpose="test"
        )
        everything = Subscription("one", exchange.bind("one", "thing.*"))
        only_later = Subscription("two", exchange.bind("two", "*.later"))
        await bus.declare([exchange], [everything, only_later])
        first, second = Recorder(), Recorder()
        async with consuming(bus, (everything, first.process), (only_later, second.process)):
            later = encode(Later(number=2), exchange, key="key", source="test", time=utc_now(), traceparent=None, actor=None)
            await bus.publish([outgoing(exchange, 1, "key"), later])
            await until(lambda: at_least(first, 2))
            await until(lambda: at_least(second, 1))
        assert first.done["key"] == [1, 2]
        assert second.done["key"] == [2]

    async def test_a_reader_that_dies_in_a_handler_leaves_its_messages_to_the_next_in_their_order(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        """Message 0 has failed and waits for its second attempt, 1 and 2 are behind it, 3 comes after the death."""
        slow = topic(SLOW) if isinstance(channel, Topic) else queue(SLOW)
        reader = await self._reader(bus, slow)
        doomed = Recorder(lambda i: Outcome(Result.RETRY, "not yet"))
        async with self.open_bus() as other, consuming(other, (reader, doomed.process)):
            await bus.publish([outgoing(slow, number, "key") for number in range(3)])
            await until(lambda: saw(doomed, 1), seconds=WAIT_SECONDS)
        await bus.publish([outgoing(slow, 3, "key")])
        seen = Recorder()
        async with consuming(bus, (reader, seen.process)):
            await until(lambda: at_least(seen, 4), seconds=WAIT_SECONDS)
        assert seen.done["key"] == [0, 1, 2, 3]

    async def test_ten_thousand_messages_reach_a_new_group_in_the_order_of_their_keys_over_three_readers(self, bus: Bus) -> None:
        if "topic" not in self.kinds:
            pytest.skip(f"{type(self).__name__} carries no topic")
        log = topic()
        reader = Subscription("late", log, batch=100)
        await bus.declare([log], [])
        for start in range(0, 10_000, 500):
            await bus.publish([outgoing(log, number, f"key-{number % 97}") for number in range(start, start + 500)])
        await bus.declare([log], [reader])
        seen = Recorder()
        async with self.open_bus() as second, self.open_bus() as third, AsyncExitStack() as stack:
            for one in (bus, second, third):
                await stack.enter_async_context(consuming(one, (reader, seen.process)))
            await until(lambda: distinct(seen, 10_000), seconds=60)
        for numbers in seen.done.values():
            assert first_times(numbers) == sorted(set(numbers))

    async def test_no_key_is_overtaken_while_readers_come_and_go(self, bus: Bus, channel: Topic | Queue) -> None:
        """Some messages fail at first, so that there is something waiting whenever a reader leaves."""
        reader, seen = await self._reader(bus, channel), Recorder(lambda i: Outcome(Result.RETRY, "x") if unlucky(i) else DONE)
        async with self.open_bus() as second, consuming(bus, (reader, seen.process)):
            for start in range(0, 300, 100):
                await bus.publish([outgoing(channel, number, f"key-{number % 7}") for number in range(start, start + 100)])
                async with consuming(second, (reader, seen.process)):
                    await until(lambda: distinct(seen, start + 60), seconds=WAIT_SECONDS)  # noqa: B023 - awaited here
            await until(lambda: distinct(seen, 300), seconds=WAIT_SECONDS)
        for numbers in seen.done.values():
            assert first_times(numbers) == sorted(set(numbers))

    async def test_poison_of_five_kinds_lands_in_the_dead_letters_and_the_good_around_it_is_done(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        reader, seen = await self._reader(bus, channel), Recorder()
        envelope = orjson.loads(outgoing(channel, 0, "x").body)
        poison = {
            "bad-json": b'{"type": "test.Ping", "data": {',
            "unknown-type": orjson.dumps({**envelope, "type": "somebody.Else"}),
            "newer-version": orjson.dumps({**envelope, "dataversion": 99}),
            "ten-megabytes": b'{"data": "' + b"x" * (10 * 1024 * 1024) + b'"}',
            "": orjson.dumps(envelope),
        }
        async with consuming(bus, (reader, seen.decoding)):
            for place, (key, body) in enumerate(poison.items()):
                await bus.publish([outgoing(channel, number, f"good-{number % 5}") for number in range(place * 200, place * 200 + 200)])
                await self.send_raw(bus, raw(channel, key, body))
            await until(lambda: at_least(seen, 1000), seconds=WAIT_SECONDS)
            letters = {letter.key: letter for letter in await until(lambda: letters_of(bus, reader, len(poison)), seconds=WAIT_SECONDS)}
        assert {key: letter.reason.split(":")[0].split(" is newer")[0] for key, letter in letters.items()} == {
            "bad-json": "not JSON",
            "unknown-type": "unknown type 'somebody.Else'",
            "newer-version": f"{envelope['type']} version 99",
            "ten-megabytes": f"{len(poison['ten-megabytes'])} bytes, over the limit of {MAX_BYTES}",
            "": "no key",
        }
        assert {letter.channel for letter in letters.values()} == {channel.name}
        assert letters["ten-megabytes"].size == len(poison["ten-megabytes"])

    async def test_what_lines_up_behind_a_message_does_not_put_off_its_next_attempt(self, bus: Bus, channel: Topic | Queue) -> None:
        slow = topic(Retry(delays=(1.5,))) if isinstance(channel, Topic) else queue(Retry(delays=(1.5,)))
        reader = await self._reader(bus, slow)
        times: list[float] = []

        def verdict(incoming: Incoming) -> Outcome:
            times.append(time.monotonic())
            return Outcome(Result.RETRY, "broken") if len(times) == 1 else DONE

        seen = Recorder(verdict)
        async with consuming(bus, (reader, seen.process)):
            await bus.publish([outgoing(slow, 0, "k")])
            await until(lambda: saw(seen, 1), seconds=WAIT_SECONDS)
            number = 0
            while len(times) == 1 and time.monotonic() < times[0] + 4.5:
                number += 1
                await bus.publish([outgoing(slow, number, "k")])
                with suppress(AssertionError):
                    await until(lambda: saw(seen, 2), seconds=0.3)
            await until(lambda: at_least(seen, number + 1), seconds=WAIT_SECONDS)
        assert seen.done["k"] == list(range(number + 1))
        assert times[1] - times[0] < 1.5 + LATE

    async def test_retries_come_at_the_stated_delays_and_delay_nobody_else(self, bus: Bus, channel: Topic | Queue) -> None:
        stated = Retry(delays=(0.3, 0.9))
        slow = topic(stated) if isinstance(channel, Topic) else queue(stated)
        reader = await self._reader(bus, slow)
        times: list[float] = []
        latency: list[float] = []
        sent: dict[int, float] = {}

        def verdict(incoming: Incoming) -> Outcome:
            now = time.monotonic()
            if incoming.key == "bad":
                times.append(now)
                return Outcome(Result.RETRY, "broken")
            latency.append(now - sent[number_of(incoming)])
            return DONE

        seen = Recorder(verdict)
        async with consuming(bus, (reader, seen.process)):
            sent[0] = time.monotonic()
            await bus.publish([outgoing(slow, 0, "warm")])
            await until(lambda: at_least(seen, 1), seconds=WAIT_SECONDS)
            await bus.publish([outgoing(slow, 1, "bad")])
            for number in range(2, 60):
                sent[number] = time.monotonic()
                await bus.publish([outgoing(slow, number, f"good-{number}")])
            await until(lambda: letters_of(bus, reader, 1), seconds=WAIT_SECONDS)
            await until(lambda: at_least(seen, 59), seconds=WAIT_SECONDS)
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert len(gaps) == 2 and 0.29 <= gaps[0] < 0.29 + LATE and 0.89 <= gaps[1] < 0.89 + LATE, gaps
        assert sorted(latency[1:])[len(latency) // 2] < 0.3, "half of the others took less than the first delay"

    async def test_stopping_finishes_what_is_in_hand_and_acknowledges_it(self, bus: Bus) -> None:
        """Three handlers are in flight when the process is told to stop."""
        channels = [topic() if "topic" in self.kinds else queue() for _ in range(3)]
        readers = [await self._reader(bus, channel) for channel in channels]
        seen = Recorder()
        begun, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def slowly(batch: list[Incoming]) -> list[Outcome]:
            begun.release()
            await go_on.wait()
            return await seen.process(batch)

        async with self.open_bus() as stopped:
            tasks = [asyncio.create_task(stopped.consume(reader, slowly)) for reader in readers]
            for channel in channels:
                await bus.publish([outgoing(channel, 1, channel.name)])
            async with asyncio.timeout(WAIT_SECONDS):
                for _ in channels:
                    await begun.acquire()
            await stopped.stop()
            go_on.set()
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.gather(*tasks)
        assert all(seen.done[channel.name] == [1] for channel in channels)
        assert set((await bus.lag(readers)).values()) == {0}

    async def test_looking_at_dead_letters_and_restarting_readers_never_loses_anything(self, bus: Bus, channel: Topic | Queue) -> None:
        """A broker that counts deliveries must not count these: 25 looks, 25 readers that die with a message in hand."""
        reader = await self._reader(bus, channel)
        buried = Recorder(lambda i: Outcome(Result.DEAD, "poison") if number_of(i) < 3 else DONE)
        async with consuming(bus, (reader, buried.process)):
            await bus.publish([outgoing(channel, number, f"key-{number}") for number in range(4)])
            await until(lambda: letters_of(bus, reader, 3), seconds=WAIT_SECONDS)
        for _ in range(25):
            assert sorted(number_of(letter) for letter in await bus.dead_letters([reader])) == [0, 1, 2]
        await bus.publish([outgoing(channel, 9, "key")])
        if isinstance(channel, Queue):  # a group of a topic takes seconds to notice each death
            for _ in range(25):
                await self._die_with_a_message_in_hand(bus, reader)
        seen = Recorder()
        async with consuming(bus, (reader, seen.process)):
            await until(lambda: at_least(seen, 1), seconds=WAIT_SECONDS)
        assert seen.done["key"] == [9]

    async def _die_with_a_message_in_hand(self, bus: Bus, reader: Subscription) -> None:
        taken = asyncio.Event()

        async def hang(_: list[Incoming]) -> list[Outcome]:
            taken.set()
            await asyncio.Event().wait()
            return []

        async with consuming(bus, (reader, hang)):
            await asyncio.wait_for(taken.wait(), WAIT_SECONDS)

    async def test_letters_of_one_message_and_of_none_are_told_apart_and_redriven_in_order(self, bus: Bus, channel: Topic | Queue) -> None:
        """The same message twice, and two without a key: four letters; some are discarded, the others come again in the order they died."""
        reader = await self._reader(bus, channel)
        broken = True
        seen = Recorder(lambda _: Outcome(Result.DEAD, "poison") if broken else DONE)
        twice = outgoing(channel, 1, "key")
        async with consuming(bus, (reader, seen.process)):
            for message in (twice, twice, *(raw(channel, "", outgoing(channel, number, "").body) for number in (7, 8))):
                await self.send_raw(bus, message)
            await bus.publish([outgoing(channel, number, "key") for number in (2, 3)])
            letters = await until(lambda: letters_of(bus, reader, 6), seconds=WAIT_SECONDS)
            assert len({letter.id for letter in letters}) == 6
            duplicate = [letter for letter in letters if letter.key == "key" and number_of(letter) == 1][1]
            assert await bus.discard([duplicate]) == 1
            broken = False
            left = await bus.dead_letters([reader], preview=10)
            assert len(left) == 5 and {len(letter.body) for letter in left} == {10} and left[0].size == len(twice.body)
            assert await bus.redrive(left) == 5
            await until(lambda: at_least(seen, 5), seconds=WAIT_SECONDS)
        assert seen.done["key"] == [1, 2, 3] and sorted(seen.done[""]) == [7, 8]
        assert [i.attempt for i in seen.seen if number_of(i) == 2] == [1, 1]
        assert await bus.dead_letters([reader]) == []

    async def send_raw(self, bus: Bus, message: Outgoing) -> None:
        """A transport whose own producer refuses what a foreign one may send has another way."""
        await bus.publish([message])

    async def test_what_waits_is_counted(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._reader(bus, channel)
        await bus.publish([outgoing(channel, number, "key") for number in range(4)])
        assert (await until(lambda: lag_of(bus, reader), seconds=WAIT_SECONDS)) == {reader.name: 4}


SLOW = Retry(delays=(3.0, 3.0))
LATE = 0.6
"""Seconds that a busy machine may be late."""


def unlucky(incoming: Incoming) -> bool:
    return incoming.attempt == 1 and number_of(incoming) % 20 == 0


def first_times(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


async def lag_of(bus: Bus, reader: Subscription) -> dict[str, int] | None:
    """None while the broker can't be asked: one that has just begun knows no coordinator of a group yet."""
    try:
        return await bus.lag([reader])
    except ConnectionError:
        return None


async def saw(seen: Recorder, count: int) -> bool:
    return len(seen.seen) >= count


async def distinct(seen: Recorder, count: int) -> bool:
    return sum(len(set(numbers)) for numbers in seen.done.values()) >= count


async def letters_of(bus: Bus, reader: Subscription, count: int) -> list[DeadLetter]:
    found = await bus.dead_letters([reader])
    return found if len(found) >= count else []


async def at_least(seen: Recorder, count: int) -> bool:
    return await seen.count()() >= count
