"""RabbitMQ keeps the promises of the bus."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aio_pika
import aiormq
import pytest

from caravan.bus import Bus, HandlingResult, IncomingMessage, PublishError, Result
from caravan.bus.rabbitmq import RabbitBus
from caravan.bus.rabbitmq.reader import QueueReader
from caravan.clock import new_id
from caravan.messages import Exchange, RetryPolicy
from tests.contract.bus_case import run_bus
from tests.contract.bus_contract import BusContract
from tests.contract.bus_messages import (
    WAIT_SECONDS,
    Happened,
    Recorder,
    fetch_dead_letters,
    has_at_least,
    make_outgoing,
    make_queue,
    run_consumers,
)
from tests.support.backends import Broker
from tests.support.shop import wait_until


class TestRabbitBus(BusContract):
    channel_kinds = ("queue", "exchange")
    longest_key = 130_800

    @pytest.fixture
    async def bus(self, rabbitmq: Broker) -> AsyncIterator[Bus]:
        self.open_bus = lambda: run_bus(RabbitBus(rabbitmq.url, "contract", management=rabbitmq.management_url))
        async with self.open_bus() as bus:
            yield bus

    async def test_what_has_no_queue_or_exchange_does_not_stop_the_others(self, bus: RabbitBus) -> None:
        there, nowhere = make_queue(), make_queue()
        reader = await self.declare_reader(bus, there)
        missing = Exchange(
            f"exchange-{new_id()}", owner="test", routes={"thing.happened": Happened}, key="id", purpose="test"
        )
        messages = [
            make_outgoing(nowhere, 0, "k"),
            make_outgoing(there, 0, "k"),
            make_outgoing(missing, 0, "k"),
            make_outgoing(there, 1, "k"),
        ]
        with pytest.raises(PublishError) as raised:
            await bus.publish(messages)
        assert {(t.message.channel, t.permanent) for t in raised.value.failures} == {
            (nowhere.name, False),
            (missing.name, False),
        }
        recorder = Recorder()
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await wait_until(lambda: has_at_least(recorder, 2))
        assert recorder.numbers_by_key["k"] == [0, 1]

    async def test_what_is_published_on_a_channel_that_is_just_closing_was_not_taken(
        self, bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The client then raises a bare Exception. It closes because a confirmation didn't come in time; the others on
        it are sent again, too.
        """
        there = make_queue()
        await self.declare_reader(bus, there)

        async def raise_bare_exception(*_: Any, **__: Any) -> None:
            raise Exception

        monkeypatch.setattr(aiormq.Channel, "basic_publish", raise_bare_exception)
        with pytest.raises(PublishError, match="not taken by RabbitMQ"):
            await bus.publish([make_outgoing(there, 0, "k")])

    @pytest.mark.parametrize(
        "step", [(aio_pika.queue.Queue, "consume"), (aiormq.Channel, "basic_ack")], ids=["consume", "acknowledge"]
    )
    async def test_a_reader_that_gets_no_further_starts_anew(
        self, bus: RabbitBus, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str]
    ) -> None:
        """A quorum queue without a leader answers no consumer, and the client's buffer of a connection that is gone
        takes no acknowledgement when it is full.
        """
        there = make_queue()
        reader = await self.declare_reader(bus, there)
        real, calls = getattr(*step), 0

        async def hang_first_call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 1:
                await asyncio.Event().wait()
            return await real(*arguments, **options)

        monkeypatch.setattr(*step, hang_first_call)
        monkeypatch.setattr("caravan.bus.rabbitmq.reader.CONNECT_SECONDS", 0.5)
        monkeypatch.setattr("caravan.bus.rabbitmq.reader.ACKNOWLEDGE_SECONDS", 0.5)
        recorder = Recorder()

        async def is_acknowledged() -> bool:
            return calls > 1 and (await bus.measure_lag([reader]))[there.name] == 0

        async with run_consumers(bus, (reader, recorder.process_batch)):
            await bus.publish([make_outgoing(there, 0, "k"), make_outgoing(there, 1, "k")])
            await wait_until(is_acknowledged, seconds=WAIT_SECONDS)
        assert list(dict.fromkeys(recorder.numbers_by_key["k"])) == [0, 1]

    @pytest.mark.parametrize("longer", [False, True])
    async def test_attempts_survive_a_restart_by_the_copy_in_the_retry_tier(
        self, bus: RabbitBus, longer: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Attempt 3 waits when the reader dies. The next reader begins with 1 and is brought up to date by the copy;
        when it comes later than the copy is due (`longer`), it finds both.
        """
        slow = make_queue(RetryPolicy(delays=(3.0, 1.0)))
        reader = await self.declare_reader(bus, slow)
        first = Recorder(lambda _: HandlingResult(Result.RETRY, "down"))
        record_attempt, recorded_attempts = QueueReader.record_attempt, []

        async def note_attempt(queue_reader: QueueReader, incoming: IncomingMessage, delay: float) -> None:
            await record_attempt(queue_reader, incoming, delay)
            recorded_attempts.append(incoming.attempt)

        async def has_copy_of_third() -> bool:
            return 3 in recorded_attempts

        monkeypatch.setattr(QueueReader, "record_attempt", note_attempt)
        async with self.open_bus() as doomed, run_consumers(doomed, (reader, first.process_batch)):
            await bus.publish([make_outgoing(slow, 0, "k")])
            await wait_until(has_copy_of_third, seconds=WAIT_SECONDS)
        second = Recorder(lambda _: HandlingResult(Result.RETRY, "down"))

        async def has_both_copies() -> bool:
            waiting, alone = [
                (await bus.measure_lag([each]))[reader.name]
                for each in (reader, replace(reader, source=replace(slow, retry=RetryPolicy(()))))
            ]
            return waiting == alone >= 2  # nothing is left in the tiers

        if longer:
            await wait_until(has_both_copies, seconds=WAIT_SECONDS, every=0.2)
        async with run_consumers(bus, (reader, second.process_batch)):
            await wait_until(lambda: fetch_dead_letters(bus, reader, 1), seconds=WAIT_SECONDS)
        assert [i.attempt for i in first.messages] == [1, 2]
        attempts = [i.attempt for i in second.messages]
        assert attempts[-1] == 3 and len(attempts) <= 2, (
            f"{attempts}: at most one attempt is made before the copies are seen"
        )

    async def test_a_reader_at_rest_notices_at_once_that_its_connection_is_gone(
        self, bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("caravan.bus.retry_buffer.REST_SECONDS", 3600.0)
        uow = make_queue()
        reader, seen = await self.declare_reader(bus, uow), Recorder()
        async with run_consumers(bus, (reader, seen.process_batch)):
            await bus.publish([make_outgoing(uow, 0, "k")])
            await wait_until(lambda: has_at_least(seen, 1))
            underlay = await bus._readers[0].channel.get_underlay_channel()
            await underlay.connection.close(ConnectionError("gone"))
            await bus.publish([make_outgoing(uow, 1, "k")])
            await wait_until(lambda: has_at_least(seen, 2), seconds=WAIT_SECONDS)

    async def test_a_reader_that_the_broker_does_not_know_starts_anew(self, bus: RabbitBus) -> None:
        channel = make_queue()
        reader, recorder = await self.declare_reader(bus, channel), Recorder()
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await bus.publish([make_outgoing(channel, 0, "k")])
            await wait_until(lambda: has_at_least(recorder, 1))
            lost_reader = bus._readers[0]
            consumer_tag = lost_reader._subscriber._consumer_tag
            assert consumer_tag
            await (await lost_reader.channel.get_underlay_channel()).basic_cancel(consumer_tag)
            for _ in range(3):
                await bus.measure_lag([reader])
            await bus.publish([make_outgoing(channel, 1, "k")])
            await wait_until(lambda: has_at_least(recorder, 2), seconds=WAIT_SECONDS)
