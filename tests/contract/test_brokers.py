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

from caravan.bus import Bus, Outcome, Result, Subscription, Undelivered
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka.reader import GroupReader
from caravan.bus.rabbit import RabbitBus
from caravan.clock import new_id
from caravan.messages import Exchange, Outgoing, Retry
from tests.backends import Broker
from tests.contract.bus_contract import (
    WAIT_SECONDS,
    BusContract,
    Happened,
    Recorder,
    at_least,
    consuming,
    distinct,
    lag_of,
    letters_of,
    outgoing,
    queue,
    raw,
    saw,
    topic,
)
from tests.contract.foreign import allow, send_foreign, set_back
from tests.shop import until


@asynccontextmanager
async def opened(made: Bus) -> AsyncIterator[Bus]:
    await made.start()
    yield made
    await made.stop()
    await made.close()


class TestKafkaBus(BusContract):
    kinds = ("topic",)

    @pytest.fixture
    async def bus(self, kafka: Broker) -> AsyncIterator[Bus]:
        self.url = kafka.url
        self.open_bus = lambda: opened(KafkaBus(kafka.url, "contract"))
        async with self.open_bus() as bus:
            yield bus

    async def send_raw(self, bus: Bus, message: Outgoing) -> None:
        """Our own producer sends nothing over 1 MiB and nothing without a key."""
        await send_foreign(self.url, message)

    async def test_what_waits_is_counted_again_when_a_group_is_set_back(self, bus: KafkaBus) -> None:
        """As for a replay: the topic gets no new message then."""
        channel, seen = topic(), Recorder()
        reader = await self._reader(bus, channel)

        async def lag(expected: int) -> bool:
            return await lag_of(bus, reader) == {reader.name: expected}

        await bus.publish([outgoing(channel, number, "key") for number in range(4)])
        async with self.open_bus() as other, consuming(other, (reader, seen.process)):
            await until(lambda: lag(0), seconds=WAIT_SECONDS)
        await asyncio.to_thread(set_back, self.url, reader.name, channel.name)
        await until(lambda: lag(4), seconds=WAIT_SECONDS)

    async def test_what_the_broker_refuses_is_named_and_the_rest_is_published(self, bus: KafkaBus) -> None:
        """One topic takes less than we may send; its innocents, other keys and other topics get through, what follows the refused one does not."""
        small, other = topic(), topic()
        readers = [await self._reader(bus, small), await self._reader(bus, other)]
        await asyncio.to_thread(allow, self.url, small.name, 2_000)
        large = raw(small, "key", outgoing(small, 1, "key").body + b" " * 5_000)
        with pytest.raises(Undelivered) as told:
            await bus.publish(
                [outgoing(small, 0, "key"), outgoing(small, 0, "free"), large, outgoing(small, 2, "key"), outgoing(other, 0, "k")]
            )
        assert {trouble.message.body for trouble in told.value.troubles if trouble.for_good} == {large.body}
        assert {orjson.loads(trouble.message.body)["data"]["number"] for trouble in told.value.troubles} <= {1, 2}
        await bus.publish([outgoing(small, 3, "free"), outgoing(other, 1, "k")])
        first, second = Recorder(), Recorder()
        async with consuming(bus, (readers[0], first.process), (readers[1], second.process)):
            await until(lambda: distinct(first, 3), seconds=WAIT_SECONDS)
            await until(lambda: distinct(second, 2), seconds=WAIT_SECONDS)
        assert list(dict.fromkeys(first.done["free"])) == [0, 3] and list(dict.fromkeys(second.done["k"])) == [0, 1]
        assert set(first.done["key"]) == {0}

    async def test_a_topic_that_is_not_there_does_not_stop_the_others(self, bus: KafkaBus) -> None:
        there, nowhere = topic(), topic()
        await self._reader(bus, there)
        if await asyncio.to_thread(makes_topics_itself, self.url):
            pytest.skip("this Kafka makes topics by itself (auto.create.topics.enable)")
        with pytest.raises(Undelivered) as told:
            await bus.publish([outgoing(nowhere, 0, "k"), outgoing(there, 0, "k")])
        assert [(t.message.channel, t.for_good) for t in told.value.troubles] == [(nowhere.name, False)]

    async def test_a_reader_that_was_there_before_its_topic_finds_it(self, bus: KafkaBus, caplog: pytest.LogCaptureFixture) -> None:
        """A consumer that has not heard of a topic asks again only when its knowledge is old: by default after five minutes."""
        if await asyncio.to_thread(makes_topics_itself, self.url):
            pytest.skip("this Kafka makes topics by itself (auto.create.topics.enable)")
        late, seen = topic(), Recorder()

        async def joined() -> bool:
            return f"{late.name} not found" in caplog.text and all(each._consumer._coordinator.generation > 0 for each in bus._readers)

        early = Subscription("reader", late)
        async with consuming(bus, (early, seen.process)):
            await until(joined, seconds=WAIT_SECONDS)
            await bus.declare([late], [early])
            await bus.publish([outgoing(late, 0, "k")])
            await until(lambda: at_least(seen, 1), seconds=WAIT_SECONDS)

    async def test_a_reader_at_rest_commits_what_it_finished_and_stops_at_once(
        self, bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It looks for nothing by itself, so the last messages of a burst must be committed, and `stop` must be heard, all the same."""
        monkeypatch.setattr("caravan.bus.reader.REST_SECONDS", 3600.0)
        there, seen = topic(), Recorder()
        reader = replace(await self._reader(bus, there), batch=1)
        reading = asyncio.create_task(bus.consume(reader, seen.process))
        await bus.publish([outgoing(there, number, "k") for number in range(5)])
        await until(lambda: at_least(seen, 5), seconds=WAIT_SECONDS)

        async def committed() -> bool:
            return (await bus.lag([reader]))[reader.name] == 0

        await until(committed, seconds=WAIT_SECONDS)
        await bus.stop()
        async with asyncio.timeout(5):
            await reading

    async def test_the_clients_are_set_so_that_nothing_is_lost(self, bus: KafkaBus) -> None:
        async with bus._producer.use() as producer:
            assert producer._sender._acks == -1 and producer._txn_manager is not None
        reader = GroupReader(self.url, "test", ["t"], bus._bury, Subscription("s", topic()), Recorder().process)
        assert reader._consumer._enable_auto_commit is False and reader._consumer._auto_offset_reset == "earliest"
        await reader.close()


def makes_topics_itself(servers: str) -> bool:
    admin = AdminClient({"bootstrap.servers": servers})
    node = ConfigResource("broker", str(next(iter(admin.list_topics(timeout=10).brokers))))
    return bool(admin.describe_configs([node])[node].result(10)["auto.create.topics.enable"].value == "true")


class TestRabbitBus(BusContract):
    kinds = ("queue", "exchange")

    @pytest.fixture
    async def bus(self, rabbitmq: Broker) -> AsyncIterator[Bus]:
        self.open_bus = lambda: opened(RabbitBus(rabbitmq.url, "contract", management=rabbitmq.management_url))
        async with self.open_bus() as bus:
            yield bus

    async def test_what_has_no_queue_or_exchange_does_not_stop_the_others(self, bus: RabbitBus) -> None:
        there, nowhere = queue(), queue()
        reader = await self._reader(bus, there)
        missing = Exchange(f"exchange-{new_id()}", owner="test", routes={"thing.happened": Happened}, key="id", purpose="test")
        messages = [outgoing(nowhere, 0, "k"), outgoing(there, 0, "k"), outgoing(missing, 0, "k"), outgoing(there, 1, "k")]
        with pytest.raises(Undelivered) as told:
            await bus.publish(messages)
        assert {(t.message.channel, t.for_good) for t in told.value.troubles} == {(nowhere.name, False), (missing.name, False)}
        seen = Recorder()
        async with consuming(bus, (reader, seen.process)):
            await until(lambda: at_least(seen, 2))
        assert seen.done["k"] == [0, 1]

    async def test_what_is_published_on_a_channel_that_is_just_closing_was_not_taken(
        self, bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The client then raises a bare Exception. It closes because a confirmation didn't come in time; the others on it are sent again, too."""
        there = queue()
        await self._reader(bus, there)

        async def closing(*_: Any, **__: Any) -> None:
            raise Exception

        monkeypatch.setattr(aiormq.Channel, "basic_publish", closing)
        with pytest.raises(Undelivered, match="not taken by RabbitMQ"):
            await bus.publish([outgoing(there, 0, "k")])

    @pytest.mark.parametrize("step", [(aio_pika.queue.Queue, "consume"), (aiormq.Channel, "basic_ack")], ids=["consume", "acknowledge"])
    async def test_a_reader_that_gets_no_further_starts_anew(
        self, bus: RabbitBus, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str]
    ) -> None:
        """A quorum queue without a leader answers no consumer, and the client's buffer of a connection that is gone takes no acknowledgement when it is full."""
        there = queue()
        reader = await self._reader(bus, there)
        real, calls = getattr(*step), 0

        async def silent_at_first(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 1:
                await asyncio.Event().wait()
            return await real(*arguments, **options)

        monkeypatch.setattr(*step, silent_at_first)
        monkeypatch.setattr("caravan.bus.rabbit.reader.CONNECT_SECONDS", 0.5)
        monkeypatch.setattr("caravan.bus.rabbit.reader.ACKNOWLEDGE_SECONDS", 0.5)
        seen = Recorder()

        async def acknowledged() -> bool:
            return calls > 1 and (await bus.lag([reader]))[there.name] == 0

        async with consuming(bus, (reader, seen.process)):
            await bus.publish([outgoing(there, 0, "k"), outgoing(there, 1, "k")])
            await until(acknowledged, seconds=WAIT_SECONDS)
        assert list(dict.fromkeys(seen.done["k"])) == [0, 1]

    @pytest.mark.parametrize("longer", [False, True])
    async def test_attempts_survive_a_restart_by_the_copy_in_the_retry_tier(self, bus: RabbitBus, longer: bool) -> None:
        """Attempt 3 waits when the reader dies. The next reader begins with 1 and is brought up to date by the copy; when it comes later than the copy is
        due (`longer`), it finds both."""
        slow = queue(Retry(delays=(3.0, 1.0)))
        reader = await self._reader(bus, slow)
        first = Recorder(lambda _: Outcome(Result.RETRY, "down"))
        async with self.open_bus() as doomed, consuming(doomed, (reader, first.process)):
            await bus.publish([outgoing(slow, 0, "k")])
            await until(lambda: saw(first, 2), seconds=WAIT_SECONDS)
        second = Recorder(lambda _: Outcome(Result.RETRY, "down"))

        async def both_are_there() -> bool:
            waiting, alone = [
                (await bus.lag([each]))[reader.name] for each in (reader, replace(reader, source=replace(slow, retry=Retry(()))))
            ]
            return waiting == alone >= 2  # nothing is left in the tiers

        if longer:
            await until(both_are_there, seconds=WAIT_SECONDS, every=0.2)
        async with consuming(bus, (reader, second.process)):
            await until(lambda: letters_of(bus, reader, 1), seconds=WAIT_SECONDS)
        assert [i.attempt for i in first.seen] == [1, 2]
        attempts = [i.attempt for i in second.seen]
        assert attempts[-1] == 3 and len(attempts) <= 2, f"{attempts}: at most one attempt is made before the copies are seen"

    async def test_a_reader_at_rest_notices_at_once_that_its_connection_is_gone(
        self, bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("caravan.bus.reader.REST_SECONDS", 3600.0)
        work = queue()
        reader, seen = await self._reader(bus, work), Recorder()
        async with consuming(bus, (reader, seen.process)):
            await bus.publish([outgoing(work, 0, "k")])
            await until(lambda: at_least(seen, 1))
            underlay = await bus._readers[0].channel.get_underlay_channel()
            await underlay.connection.close(ConnectionError("gone"))
            await bus.publish([outgoing(work, 1, "k")])
            await until(lambda: at_least(seen, 2), seconds=WAIT_SECONDS)

    async def test_a_reader_that_the_broker_does_not_know_starts_anew(self, bus: RabbitBus) -> None:
        work = queue()
        reader, seen = await self._reader(bus, work), Recorder()
        async with consuming(bus, (reader, seen.process)):
            await bus.publish([outgoing(work, 0, "k")])
            await until(lambda: at_least(seen, 1))
            lost = bus._readers[0]
            await (await lost.channel.get_underlay_channel()).basic_cancel(lost.tag)
            for _ in range(3):
                await bus.lag([reader])
            await bus.publish([outgoing(work, 1, "k")])
            await until(lambda: at_least(seen, 2), seconds=WAIT_SECONDS)
