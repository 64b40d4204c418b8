"""The promise of the bus as tests, inherited once per transport: a transport adds only the fixture `bus`."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from caravan.bus import DONE, Bus, Incoming, Outcome, Process, Result, Subscription
from caravan.clock import new_id, utc_now
from caravan.messages import Command, Event, Exchange, Outgoing, Queue, Retry, Topic, encode
from tests.shop import until


class Ping(Command):
    number: int


class Happened(Event):
    number: int


class Later(Event):
    number: int


QUICK = Retry(delays=(0.05, 0.05))


def topic() -> Topic:
    return Topic(f"topic-{new_id()}", owner="test", events=(Happened, Later), key="id", purpose="test", retry=QUICK)


def queue() -> Queue:
    return Queue(f"test.queue-{new_id()}", owner="test", commands=(Ping,), key="id", purpose="test", retry=QUICK)


def outgoing(channel: Topic | Queue | Exchange, number: int, key: str, identifier: UUID | None = None) -> Outgoing:
    message = Ping(number=number) if isinstance(channel, Queue) else Happened(number=number)
    return encode(message, channel, key=key, source="test", time=utc_now(), traceparent=None, actor=None, identifier=identifier)


def number_of(incoming: Incoming) -> int:
    import orjson

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
            await until(lambda: _at_least(seen, 300))
        for numbers in seen.done.values():
            assert numbers == sorted(numbers)

    async def test_a_failing_message_is_tried_again_and_not_overtaken_by_its_key(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._reader(bus, channel)
        seen = Recorder(lambda i: Outcome(Result.RETRY, "not yet") if number_of(i) == 0 and i.attempt < 3 else DONE)
        async with consuming(bus, (reader, seen.process)):
            await bus.publish([outgoing(channel, number, "slow" if number < 5 else "other") for number in range(10)])
            await until(lambda: _at_least(seen, 10))
        assert seen.done["slow"] == [0, 1, 2, 3, 4]
        assert [i.attempt for i in seen.seen if number_of(i) == 0] == [1, 2, 3]

    async def test_a_waiting_key_does_not_hold_up_others(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._reader(bus, channel)
        order: list[int] = []

        def verdict(incoming: Incoming) -> Outcome:
            order.append(number_of(incoming))
            return Outcome(Result.RETRY, "down") if number_of(incoming) == 0 and incoming.attempt == 1 else DONE

        seen = Recorder(verdict)
        async with consuming(bus, (reader, seen.process)):
            await bus.publish([outgoing(channel, number, "bad" if number == 0 else f"good-{number}") for number in range(5)])
            await until(lambda: _at_least(seen, 5))
        assert order[-1] == 0, "the others were done before the failing one's second attempt"

    async def test_used_up_attempts_end_in_the_dead_letters_and_the_key_goes_on(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._reader(bus, channel)
        seen = Recorder(lambda i: Outcome(Result.RETRY, "broken for good") if number_of(i) == 0 else DONE)
        async with consuming(bus, (reader, seen.process)):
            await bus.publish([outgoing(channel, number, "key") for number in range(3)])
            await until(lambda: _at_least(seen, 2))
            letters = await until(lambda: bus.dead_letters([reader]))
        assert seen.done["key"] == [1, 2]
        assert [(letter.reason, letter.key, letter.channel, letter.attempt) for letter in letters] == [
            ("broken for good", "key", channel.name, 3)
        ]

    async def test_a_rejected_message_is_a_dead_letter_at_once_and_can_be_redriven(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._reader(bus, channel)
        refuse = True
        seen = Recorder(lambda i: Outcome(Result.DEAD, "poison") if refuse and number_of(i) == 1 else DONE)
        async with consuming(bus, (reader, seen.process)):
            message = [outgoing(channel, number, f"key-{number}") for number in range(3)]
            await bus.publish(message)
            letters = await until(lambda: bus.dead_letters([reader]))
            await until(lambda: _at_least(seen, 2))
            refuse = False
            assert await bus.redrive(letters[:1]) == 1
            await until(lambda: _at_least(seen, 3))
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
            await until(lambda: _at_least(seen, 5))
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
            await until(lambda: _at_least(seen, 1))
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
            await until(lambda: _at_least(first, 20))
            await until(lambda: _at_least(second, 20))
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
            await until(lambda: _at_least(first, 2))
            await until(lambda: _at_least(second, 1))
        assert first.done["key"] == [1, 2]
        assert second.done["key"] == [2]

    async def test_what_waits_is_counted(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self._reader(bus, channel)
        await bus.publish([outgoing(channel, number, "key") for number in range(4)])
        assert (await bus.lag([reader]))[reader.name] == 4


async def _at_least(seen: Recorder, count: int) -> bool:
    return await seen.count()() >= count
