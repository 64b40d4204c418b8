"""Kafka and RabbitMQ keep the promise of the bus."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aio_pika
import aiormq
import orjson
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

from caravan.bus import Bus, HandlingResult, PublishError, Result, Subscription
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka.reader import GroupReader
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.rabbitmq import RabbitBus
from caravan.clock import new_id
from caravan.messages import Exchange, OutgoingMessage, RetryPolicy
from tests.contract.bus_contract import (
    WAIT_SECONDS,
    BusContract,
    Happened,
    Recorder,
    fetch_dead_letters,
    has_at_least,
    has_distinct,
    has_recorded,
    lag_of,
    make_outgoing,
    make_queue,
    make_raw_outgoing,
    make_topic,
    run_consumers,
)
from tests.contract.foreign import raise_size_limit, send_foreign, set_back
from tests.support.backends import Broker
from tests.support.shop import wait_until


@asynccontextmanager
async def run_bus(bus: Bus) -> AsyncIterator[Bus]:
    await bus.start()
    yield bus
    await bus.stop()
    await bus.close()


class TestKafkaBus(BusContract):
    channel_kinds = ("topic",)

    @pytest.fixture
    async def bus(self, kafka: Broker) -> AsyncIterator[Bus]:
        self.url = kafka.url
        self.open_bus = lambda: run_bus(KafkaBus(KafkaServers(kafka.url), "contract"))
        async with self.open_bus() as bus:
            yield bus

    async def send_raw(self, bus: Bus, message: OutgoingMessage) -> None:
        """Our own producer sends nothing over 1 MiB and nothing without a key."""
        await send_foreign(self.url, message)

    async def test_what_waits_is_counted_again_when_a_group_is_set_back(self, bus: KafkaBus) -> None:
        """As for a replay: the topic gets no new message then."""
        channel, seen = make_topic(), Recorder()
        reader = await self._declare_reader(bus, channel)

        async def lag(expected: int) -> bool:
            return await lag_of(bus, reader) == {reader.name: expected}

        await bus.publish([make_outgoing(channel, number, "key") for number in range(4)])
        async with self.open_bus() as other, run_consumers(other, (reader, seen.process_batch)):
            await wait_until(lambda: lag(0), seconds=WAIT_SECONDS)
        await asyncio.to_thread(set_back, self.url, reader.name, channel.name)
        await wait_until(lambda: lag(4), seconds=WAIT_SECONDS)

    async def test_what_the_broker_refuses_is_named_and_the_rest_is_published(self, bus: KafkaBus) -> None:
        """One topic takes less than we may send; its innocents, other keys and other topics get through, what follows
        the refused one does not.
        """
        small, other = make_topic(), make_topic()
        readers = [await self._declare_reader(bus, small), await self._declare_reader(bus, other)]
        await asyncio.to_thread(raise_size_limit, self.url, small.name, 2_000)
        large = make_raw_outgoing(small, "key", make_outgoing(small, 1, "key").body + b" " * 5_000)
        with pytest.raises(PublishError) as raised:
            await bus.publish(
                [
                    make_outgoing(small, 0, "key"),
                    make_outgoing(small, 0, "free"),
                    large,
                    make_outgoing(small, 2, "key"),
                    make_outgoing(other, 0, "k"),
                ]
            )
        assert {failure.message.body for failure in raised.value.failures if failure.permanent} == {large.body}
        assert {orjson.loads(failure.message.body)["data"]["number"] for failure in raised.value.failures} <= {1, 2}
        await bus.publish([make_outgoing(small, 3, "free"), make_outgoing(other, 1, "k")])
        first, second = Recorder(), Recorder()
        async with run_consumers(bus, (readers[0], first.process_batch), (readers[1], second.process_batch)):
            await wait_until(lambda: has_distinct(first, 3), seconds=WAIT_SECONDS)
            await wait_until(lambda: has_distinct(second, 2), seconds=WAIT_SECONDS)
        assert list(dict.fromkeys(first.numbers_by_key["free"])) == [0, 3]
        assert list(dict.fromkeys(second.numbers_by_key["k"])) == [0, 1]
        assert set(first.numbers_by_key["key"]) == {0}

    async def test_a_topic_that_is_not_there_does_not_stop_the_others(self, bus: KafkaBus) -> None:
        there, nowhere = make_topic(), make_topic()
        await self._declare_reader(bus, there)
        if await asyncio.to_thread(is_auto_creating_topics, self.url):
            pytest.skip("this Kafka makes topics by itself (auto.create.topics.enable)")
        with pytest.raises(PublishError) as raised:
            await bus.publish([make_outgoing(nowhere, 0, "k"), make_outgoing(there, 0, "k")])
        assert [(t.message.channel, t.permanent) for t in raised.value.failures] == [(nowhere.name, False)]

    async def test_a_reader_that_was_there_before_its_topic_finds_it(
        self, bus: KafkaBus, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A consumer that has not heard of a topic asks again only when its knowledge is old: by default after five
        minutes.
        """
        if await asyncio.to_thread(is_auto_creating_topics, self.url):
            pytest.skip("this Kafka makes topics by itself (auto.create.topics.enable)")
        late, recorder = make_topic(), Recorder()

        async def has_joined() -> bool:
            return f"{late.name} not found" in caplog.text and all(
                each._consumer._coordinator.generation > 0 for each in bus._readers
            )

        early = Subscription("reader", late)
        async with run_consumers(bus, (early, recorder.process_batch)):
            await wait_until(has_joined, seconds=WAIT_SECONDS)
            await bus.declare_channels([late], [early])
            await bus.publish([make_outgoing(late, 0, "k")])
            await wait_until(lambda: has_at_least(recorder, 1), seconds=WAIT_SECONDS)

    async def test_a_reader_at_rest_commits_what_it_finished_and_stops_at_once(
        self, bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It looks for nothing by itself, so the last messages of a burst must be committed, and `stop` must be heard,
        all the same.
        """
        monkeypatch.setattr("caravan.bus.retry_buffer.REST_SECONDS", 3600.0)
        there, seen = make_topic(), Recorder()
        reader = replace(await self._declare_reader(bus, there), batch=1)
        reading = asyncio.create_task(bus.consume(reader, seen.process_batch))
        await bus.publish([make_outgoing(there, number, "k") for number in range(5)])
        await wait_until(lambda: has_at_least(seen, 5), seconds=WAIT_SECONDS)

        async def committed() -> bool:
            return (await bus.measure_lag([reader]))[reader.name] == 0

        await wait_until(committed, seconds=WAIT_SECONDS)
        await bus.stop()
        async with asyncio.timeout(5):
            await reading

    async def test_the_clients_are_set_so_that_nothing_is_lost(self, bus: KafkaBus) -> None:
        async with bus._producer.use_producer() as producer:
            assert producer._sender._acks == -1
            assert producer._txn_manager is not None
        reader = GroupReader(
            KafkaServers(self.url),
            "test",
            ["t"],
            bus._write_dead_letter,
            Subscription("s", make_topic()),
            Recorder().process_batch,
        )
        assert reader._consumer._enable_auto_commit is False
        assert reader._consumer._auto_offset_reset == "earliest"
        await reader.close()


def is_auto_creating_topics(servers: str) -> bool:
    admin = AdminClient({"bootstrap.servers": servers})
    node = ConfigResource("broker", str(next(iter(admin.list_topics(timeout=10).brokers))))
    return bool(admin.describe_configs([node])[node].result(10)["auto.create.topics.enable"].value == "true")


class TestRabbitBus(BusContract):
    channel_kinds = ("queue", "exchange")

    @pytest.fixture
    async def bus(self, rabbitmq: Broker) -> AsyncIterator[Bus]:
        self.open_bus = lambda: run_bus(RabbitBus(rabbitmq.url, "contract", management=rabbitmq.management_url))
        async with self.open_bus() as bus:
            yield bus

    async def test_what_has_no_queue_or_exchange_does_not_stop_the_others(self, bus: RabbitBus) -> None:
        there, nowhere = make_queue(), make_queue()
        reader = await self._declare_reader(bus, there)
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
        await self._declare_reader(bus, there)

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
        reader = await self._declare_reader(bus, there)
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
    async def test_attempts_survive_a_restart_by_the_copy_in_the_retry_tier(self, bus: RabbitBus, longer: bool) -> None:
        """Attempt 3 waits when the reader dies. The next reader begins with 1 and is brought up to date by the copy;
        when it comes later than the copy is
        due (`longer`), it finds both."""
        slow = make_queue(RetryPolicy(delays=(3.0, 1.0)))
        reader = await self._declare_reader(bus, slow)
        first = Recorder(lambda _: HandlingResult(Result.RETRY, "down"))
        async with self.open_bus() as doomed, run_consumers(doomed, (reader, first.process_batch)):
            await bus.publish([make_outgoing(slow, 0, "k")])
            await wait_until(lambda: has_recorded(first, 2), seconds=WAIT_SECONDS)
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
        reader, seen = await self._declare_reader(bus, uow), Recorder()
        async with run_consumers(bus, (reader, seen.process_batch)):
            await bus.publish([make_outgoing(uow, 0, "k")])
            await wait_until(lambda: has_at_least(seen, 1))
            underlay = await bus._readers[0].channel.get_underlay_channel()
            await underlay.connection.close(ConnectionError("gone"))
            await bus.publish([make_outgoing(uow, 1, "k")])
            await wait_until(lambda: has_at_least(seen, 2), seconds=WAIT_SECONDS)

    async def test_a_reader_that_the_broker_does_not_know_starts_anew(self, bus: RabbitBus) -> None:
        channel = make_queue()
        reader, recorder = await self._declare_reader(bus, channel), Recorder()
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await bus.publish([make_outgoing(channel, 0, "k")])
            await wait_until(lambda: has_at_least(recorder, 1))
            lost_reader = bus._readers[0]
            await (await lost_reader.channel.get_underlay_channel()).basic_cancel(lost_reader.consumer_tag)
            for _ in range(3):
                await bus.measure_lag([reader])
            await bus.publish([make_outgoing(channel, 1, "k")])
            await wait_until(lambda: has_at_least(recorder, 2), seconds=WAIT_SECONDS)
