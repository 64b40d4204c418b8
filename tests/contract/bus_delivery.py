"""Promises of the bus: every message arrives at every reader, and each key keeps its order."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import pytest

from caravan.bus import DONE, Bus, HandlingResult, IncomingMessage, Result, Subscription
from caravan.clock import new_id, utc_now
from caravan.messages import (
    Exchange,
    Queue,
    Topic,
    encode_message,
)
from tests.contract.bus_case import BusCase
from tests.contract.bus_messages import (
    SLOW,
    WAIT_SECONDS,
    Happened,
    Later,
    Recorder,
    drop_repetitions,
    has_at_least,
    has_distinct,
    has_recorded,
    is_unlucky,
    lag_of,
    make_outgoing,
    make_queue,
    make_topic,
    run_consumers,
)
from tests.support.shop import wait_until


class DeliveryContract(BusCase):
    async def test_every_message_arrives_and_each_key_keeps_its_order(self, bus: Bus, channel: Topic | Queue) -> None:
        reader, recorder = await self.declare_reader(bus, channel), Recorder()
        async with run_consumers(bus, (reader, recorder.process_batch)):
            for start in range(0, 300, 50):
                await bus.publish(
                    [make_outgoing(channel, number, f"key-{number % 7}") for number in range(start, start + 50)]
                )
            await wait_until(lambda: has_at_least(recorder, 300), seconds=WAIT_SECONDS)
        for numbers in recorder.numbers_by_key.values():
            assert numbers == sorted(numbers)

    async def test_no_key_is_overtaken_while_readers_come_and_go(self, bus: Bus, channel: Topic | Queue) -> None:
        """Some messages fail at first, so that there is something waiting whenever a reader leaves."""
        reader, recorder = (
            await self.declare_reader(bus, channel),
            Recorder(lambda i: HandlingResult(Result.RETRY, "x") if is_unlucky(i) else DONE),
        )
        async with self.open_bus() as second, run_consumers(bus, (reader, recorder.process_batch)):
            for start in range(0, 300, 100):
                await bus.publish(
                    [make_outgoing(channel, number, f"key-{number % 7}") for number in range(start, start + 100)]
                )
                async with run_consumers(second, (reader, recorder.process_batch)):
                    await wait_until(partial(has_distinct, recorder, start + 60), seconds=WAIT_SECONDS)
            await wait_until(lambda: has_distinct(recorder, 300), seconds=WAIT_SECONDS)
        for numbers in recorder.numbers_by_key.values():
            assert drop_repetitions(numbers) == sorted(set(numbers))

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

    async def test_a_reader_that_dies_in_a_handler_leaves_its_messages_to_the_next_in_their_order(
        self, bus: Bus, channel: Topic | Queue
    ) -> None:
        """Message 0 has failed and waits for its second attempt, 1 and 2 are behind it, 3 comes after the death."""
        slow = make_topic(SLOW) if isinstance(channel, Topic) else make_queue(SLOW)
        reader = await self.declare_reader(bus, slow)
        doomed = Recorder(lambda i: HandlingResult(Result.RETRY, "not yet"))
        async with self.open_bus() as other, run_consumers(other, (reader, doomed.process_batch)):
            await bus.publish([make_outgoing(slow, number, "key") for number in range(3)])
            await wait_until(lambda: has_recorded(doomed, 1), seconds=WAIT_SECONDS)
        await bus.publish([make_outgoing(slow, 3, "key")])
        recorder = Recorder()
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await wait_until(lambda: has_at_least(recorder, 4), seconds=WAIT_SECONDS)
        assert recorder.numbers_by_key["key"] == [0, 1, 2, 3]

    async def test_nothing_is_lost_when_a_batch_is_cut_off(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self.declare_reader(bus, channel)
        is_cut_off = asyncio.Event()

        async def hang_forever(_: list[IncomingMessage]) -> list[HandlingResult]:
            is_cut_off.set()
            await asyncio.Event().wait()
            return []

        async with run_consumers(bus, (reader, hang_forever)):
            await bus.publish([make_outgoing(channel, number, "key") for number in range(5)])
            await asyncio.wait_for(is_cut_off.wait(), WAIT_SECONDS)
        recorder = Recorder()
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await wait_until(lambda: has_at_least(recorder, 5))
        assert recorder.numbers_by_key["key"] == [0, 1, 2, 3, 4]

    async def test_every_group_of_a_topic_reads_all_from_the_first_message(self, bus: Bus) -> None:
        if "topic" not in self.channel_kinds:
            pytest.skip(f"{type(self).__name__} carries no topic")
        log = make_topic()
        early = await self.declare_reader(bus, log, "early")
        await bus.publish([make_outgoing(log, number, "key") for number in range(20)])
        late = await self.declare_reader(bus, log, "late")
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

    async def test_stopping_finishes_what_is_in_hand_and_acknowledges_it(self, bus: Bus) -> None:
        """Three handlers are in flight when the process is told to stop."""
        channels = [make_topic() if "topic" in self.channel_kinds else make_queue() for _ in range(3)]
        readers = [await self.declare_reader(bus, channel) for channel in channels]
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

    async def test_what_waits_is_counted(self, bus: Bus, channel: Topic | Queue) -> None:
        reader = await self.declare_reader(bus, channel)
        await bus.publish([make_outgoing(channel, number, "key") for number in range(4)])
        assert (await wait_until(lambda: lag_of(bus, reader), seconds=WAIT_SECONDS)) == {reader.name: 4}
