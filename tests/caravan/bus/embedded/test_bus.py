"""The bus of a laptop beyond what `tests/contract` asks of every bus: its declarations, its notifications between
processes, and its retention.
"""

import asyncio
from datetime import timedelta

import pytest

from caravan import fault_flags
from caravan.bus import DONE, HandlingResult, IncomingMessage, Subscription
from caravan.bus.embedded import EmbeddedBus
from caravan.clock import new_id, utc_now
from caravan.messages import Exchange, Topic
from caravan.runtime import Backends
from tests.contract.bus_messages import (
    Happened,
    Recorder,
    has_at_least,
    make_outgoing,
    make_queue,
    make_topic,
    run_consumers,
)
from tests.support.embedded_bus import open_embedded_bus
from tests.support.faults import switch_faults
from tests.support.shop import wait_until


async def test_a_reader_that_has_left_makes_room_for_another_while_its_bus_stays(
    embedded_bus: EmbeddedBus, backends: Backends
) -> None:
    channel, first, second = make_topic(), Recorder(), Recorder()
    reader = Subscription("reader", channel)
    async with open_embedded_bus(backends) as other:
        await embedded_bus.declare_channels([channel], [reader])
        async with run_consumers(embedded_bus, (reader, first.process_batch)):
            await embedded_bus.publish([make_outgoing(channel, 0, "k")])
            await wait_until(lambda: has_at_least(first, 1))
        async with run_consumers(other, (reader, second.process_batch)):
            await embedded_bus.publish([make_outgoing(channel, 1, "k")])
            await wait_until(lambda: has_at_least(second, 1))


def make_exchange() -> Exchange:
    return Exchange(f"exchange-{new_id()}", "test", {"a.b": Happened, "c.d": Happened}, "id", "test")


async def test_declaring_again_changes_nothing_and_a_pattern_that_went_is_unbound(embedded_bus: EmbeddedBus) -> None:
    exchange, queue = make_exchange(), f"reader.{new_id()}"

    async def count_waiting(*patterns: str) -> int:
        reader = Subscription("reader", exchange.bind(queue, *patterns))
        await embedded_bus.declare_channels([exchange], [reader])
        await embedded_bus.declare_channels([exchange], [reader])
        await embedded_bus.publish([make_outgoing(exchange, 1, "k")])
        return (await embedded_bus.measure_lag([reader]))[reader.name]

    assert await count_waiting("a.b") == 1
    assert await count_waiting("a.*", "#") == 2, "one copy for one queue, however many patterns fit"
    assert await count_waiting("c.d") == 2, "nothing more"


async def test_what_one_process_publishes_another_hears_of(embedded_bus: EmbeddedBus, backends: Backends) -> None:
    channel = make_topic()
    async with open_embedded_bus(backends) as other:
        notifying = asyncio.create_task(embedded_bus.notify_other_processes())
        try:
            await embedded_bus.publish([make_outgoing(channel, 0, "k")])
            async with asyncio.timeout(10):
                await other.messages_arrived.wait()
        finally:
            notifying.cancel()


async def test_publishing_is_whole_or_not_at_all(embedded_bus: EmbeddedBus) -> None:
    channel, queue = make_topic(), make_queue()
    subscription, tasks = Subscription("reader", channel), Subscription("reader", queue)
    await embedded_bus.declare_channels([channel, queue], [subscription, tasks])
    broken = make_outgoing(queue, 1, "k")._replace(key="\0")
    with pytest.raises(Exception, match="0x00"):
        await embedded_bus.publish([make_outgoing(channel, 0, "k"), broken])
    assert await embedded_bus.measure_lag([subscription, tasks]) == {subscription.name: 0, tasks.name: 0}


async def test_a_stopped_bus_takes_no_new_batch_and_acknowledges_the_last(
    embedded_bus: EmbeddedBus, backends: Backends
) -> None:
    queue, handled = make_queue(), list[IncomingMessage]()
    subscription = Subscription("reader", queue, batch=1)
    await embedded_bus.declare_channels([queue], [subscription])
    await embedded_bus.publish([make_outgoing(queue, number, "k") for number in range(2)])
    async with open_embedded_bus(backends) as stopping, asyncio.timeout(10):

        async def stop_meanwhile(batch: list[IncomingMessage]) -> list[HandlingResult]:
            handled.extend(batch)
            await stopping.stop()
            return [DONE] * len(batch)

        await stopping.consume(subscription, stop_meanwhile)
    assert len(handled) == 1
    assert await embedded_bus.measure_lag([subscription]) == {subscription.name: 1}


async def test_a_topic_keeps_what_is_young_and_what_a_group_has_not_read(
    backends: Backends, embedded_bus: EmbeddedBus
) -> None:
    kept, read = make_topic(), make_topic()
    slow, quick = Subscription("slow", kept), Subscription("quick", read)
    recorder = Recorder()

    async def count_rows(topic: Topic) -> int:
        return int(await embedded_bus.database.fetchval("SELECT count(*) FROM topic_log WHERE topic = $1", topic.name))

    async with open_embedded_bus(backends, clock=lambda: utc_now() + kept.retention - timedelta(hours=1)) as early:
        await early.declare_channels([kept, read], [slow, quick])
        await early.publish([make_outgoing(channel, 0, "k") for channel in (kept, read)])
        async with run_consumers(early, (quick, recorder.process_batch)):
            await wait_until(lambda: has_at_least(recorder, 1))

            async def has_acknowledged() -> bool:
                return (await early.measure_lag([quick]))[quick.name] == 0

            await wait_until(has_acknowledged)
        await early.prune_topics()
        assert (await count_rows(kept), await count_rows(read)) == (1, 1)
    async with open_embedded_bus(backends, clock=lambda: utc_now() + kept.retention + timedelta(hours=1)) as late:
        await late.declare_channels([kept, read], [])
        await late.prune_topics()
        assert (await count_rows(kept), await count_rows(read)) == (1, 0)


async def test_the_newest_messages_come_in_their_order_and_from_the_end_of_the_log_there_are_none(
    embedded_bus: EmbeddedBus,
) -> None:
    end = await embedded_bus.get_end_position()
    channel = make_topic()
    await embedded_bus.publish([make_outgoing(channel, number, f"k{number}") for number in range(5)])
    newest = await embedded_bus.list_newest_messages(end, 3)
    assert [message.key for message in newest] == ["k2", "k3", "k4"]
    assert await embedded_bus.list_newest_messages(newest[-1].position, 3) == []


async def test_a_fault_holds_the_readers_of_one_service(embedded_bus: EmbeddedBus) -> None:
    channel, held, other = make_topic(), Recorder(), Recorder()
    reader, other_reader = Subscription("reader", channel), Subscription("other-reader", channel)
    await embedded_bus.declare_channels([channel], [reader, other_reader])
    with switch_faults("consumer-stuck:reader"):
        async with run_consumers(embedded_bus, (reader, held.process_batch), (other_reader, other.process_batch)):
            await embedded_bus.publish([make_outgoing(channel, 0, "k")])
            await wait_until(lambda: has_at_least(other, 1))
            assert not await has_at_least(held, 1)
            assert (await embedded_bus.measure_lag([reader]))[reader.name] == 1
            fault_flags.switch(())
            await wait_until(lambda: has_at_least(held, 1))
