"""Kafka keeps the promises of the bus."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

from caravan.bus import Bus, HandlingResult, IncomingMessage, PublishError, Subscription
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka.reader import _SETTINGS, GroupReader
from caravan.bus.kafka_servers import KafkaServers
from caravan.messages import OutgoingMessage
from tests.contract.bus_case import run_bus
from tests.contract.bus_contract import BusContract
from tests.contract.bus_messages import (
    WAIT_SECONDS,
    Recorder,
    has_at_least,
    has_distinct,
    lag_of,
    make_outgoing,
    make_raw_outgoing,
    make_topic,
    run_consumers,
)
from tests.contract.foreign import raise_size_limit, send_foreign, set_back
from tests.support.backends import Broker
from tests.support.shop import wait_until


def has_group(reader: GroupReader) -> bool:
    consumer = reader._subscriber.consumer
    return consumer is not None and consumer._coordinator is not None and consumer._coordinator.generation > 0


class TestKafkaBus(BusContract):
    channel_kinds = ("topic",)
    longest_key = 1_200_000

    @pytest.fixture
    async def bus(self, kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bus]:
        """Its readers hear of a rebalance, and ask anew after one, within a third of a second instead of three, five or
        ten: most of these tests begin with one.
        """
        for name in ("heartbeat_interval_ms", "fetch_max_wait_ms", "consumer_timeout_ms"):
            monkeypatch.setitem(_SETTINGS, name, 300)
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
        reader = await self.declare_reader(bus, channel)

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
        readers = [await self.declare_reader(bus, small), await self.declare_reader(bus, other)]
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
        await self.declare_reader(bus, there)
        if await asyncio.to_thread(is_auto_creating_topics, self.url):
            pytest.skip("this Kafka makes topics by itself (auto.create.topics.enable)")
        with pytest.raises(PublishError) as raised:
            await bus.publish([make_outgoing(nowhere, 0, "k"), make_outgoing(there, 0, "k")])
        assert [(t.message.channel, t.permanent) for t in raised.value.failures] == [(nowhere.name, False)]

    async def test_a_reader_that_was_there_before_its_topic_finds_it(
        self, bus: KafkaBus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A consumer that has not heard of a topic asks again only when its knowledge is old: by default after five
        minutes.
        """
        assert _SETTINGS["metadata_max_age_ms"] <= 20_000
        monkeypatch.setitem(_SETTINGS, "metadata_max_age_ms", 1_000)
        if await asyncio.to_thread(is_auto_creating_topics, self.url):
            pytest.skip("this Kafka makes topics by itself (auto.create.topics.enable)")
        late, recorder = make_topic(), Recorder()

        async def has_joined() -> bool:
            return f"{late.name} not found" in caplog.text and all(map(has_group, bus._readers))

        early = Subscription("reader", late)
        async with run_consumers(bus, (early, recorder.process_batch)):
            await wait_until(has_joined, seconds=WAIT_SECONDS)
            await bus.declare_channels([late], [early])
            await bus.publish([make_outgoing(late, 0, "k")])
            await wait_until(lambda: has_at_least(recorder, 1), seconds=WAIT_SECONDS)

    async def test_what_came_while_a_batch_took_its_time_is_next(
        self, bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While messages of a partition wait to be handled, the client would ask for the others, and get no answer
        before something comes on one of them; meanwhile it would not ask for more of the first.
        """
        monkeypatch.setitem(_SETTINGS, "fetch_max_wait_ms", 20_000)
        there, seen, times = make_topic(), Recorder(), list[float]()
        reader = replace(await self.declare_reader(bus, there), batch=1)

        async def take_time(batch: list[IncomingMessage]) -> list[HandlingResult]:
            times.append(asyncio.get_running_loop().time())
            if len(times) == 1:
                await bus.publish([make_outgoing(there, 2, "k")])
                await asyncio.sleep(0.5)  # its work
            return await seen.process_batch(batch)

        await bus.publish([make_outgoing(there, number, "k") for number in range(2)])
        async with run_consumers(bus, (reader, take_time)):
            await wait_until(lambda: has_at_least(seen, 3), seconds=WAIT_SECONDS)
        assert times[2] - times[1] < 5

    async def test_a_reader_at_rest_commits_what_it_finished_and_stops_at_once(
        self, bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It looks for nothing by itself, so the last messages of a burst must be committed, and `stop` must be heard,
        all the same.
        """
        monkeypatch.setattr("caravan.bus.retry_buffer.REST_SECONDS", 3600.0)
        there, seen = make_topic(), Recorder()
        reader = replace(await self.declare_reader(bus, there), batch=1)
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
        channel, recorder = make_topic(), Recorder()
        reader = await self.declare_reader(bus, channel)
        async with run_consumers(bus, (reader, recorder.process_batch)):
            await bus.publish([make_outgoing(channel, 0, "k")])
            await wait_until(lambda: has_at_least(recorder, 1), seconds=WAIT_SECONDS)
            consumer = bus._readers[0]._subscriber.get_consumer()
            assert consumer._enable_auto_commit is False
            assert consumer._auto_offset_reset == "earliest"
            assert consumer._isolation_level == "read_committed"


def is_auto_creating_topics(servers: str) -> bool:
    admin = AdminClient({"bootstrap.servers": servers})
    node = ConfigResource("broker", str(next(iter(admin.list_topics(timeout=10).brokers))))
    return bool(admin.describe_configs([node])[node].result(10)["auto.create.topics.enable"].value == "true")
