"""Reading topics from their beginning, and where a group without a position begins, on a broker."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaTimeoutError

from caravan.bus import DONE, NEW_READER_AGE, HandlingResult, IncomingMessage, Subscription
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka import log as log_module
from caravan.bus.kafka.log import KafkaTopicLog, open_kafka_log
from caravan.bus.kafka_servers import KafkaServers
from caravan.clock import new_id
from caravan.messages import Topic
from tests.caravan.bus.kafka.fake_kafka import FakeConsumer, FakeKafka
from tests.support.backends import Broker
from tests.support.deliveries import Blank
from tests.support.shop import wait_until


@pytest.fixture
async def producer(kafka: Broker) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.url)
    await producer.start()
    yield producer
    await producer.stop()


@pytest.fixture
async def topics(kafka: Broker) -> list[str]:
    names = [f"log-{new_id()}" for _ in range(2)]
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.url)
    await admin.start()
    await admin.create_topics([NewTopic(name, 3, 1) for name in names])
    await admin.close()
    return names


async def test_every_message_is_read_once_and_then_what_has_come_since(
    kafka: Broker, producer: AIOKafkaProducer, topics: list[str]
) -> None:
    for number in range(40):
        await producer.send_and_wait(topics[number % 2], b"%d" % number, key=b"key %d" % (number % 5))
    async with open_kafka_log(KafkaServers(kafka.url), "test", topics) as log:
        found = []
        while messages := await log.read_messages(7):
            assert len(messages) <= 7
            found += messages
        assert sorted(int(message.body) for message in found) == list(range(40))
        assert {message.topic for message in found} == set(topics)
        by_key = [int(message.body) for message in found if message.topic == topics[0] and int(message.body) % 5 == 0]
        assert by_key == sorted(by_key)
        await producer.send_and_wait(topics[0], b"40", key=b"key 0")
        assert [message.body for message in await log.read_messages(7)] == [b"40"]
        assert await log.read_messages(7) == []


async def test_an_unreachable_broker_is_named() -> None:
    with pytest.raises(ConnectionError, match=r"Kafka at 127.0.0.1:1 can't be used"):
        async with open_kafka_log(KafkaServers("127.0.0.1:1"), "test", ["orders"]):
            pass


async def test_a_broker_that_goes_in_the_middle_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka's `getmany` only answers that nothing came."""
    monkeypatch.setattr(log_module, "_SILENCE_SECONDS", 0.05)
    kafka = FakeKafka()
    kafka.add_topic("orders")
    kafka.append_record("orders", b"key", b"1")
    consumer: Any = FakeConsumer(kafka, {})
    consumer.assign([TopicPartition("orders", 0)])
    log = KafkaTopicLog(consumer)
    assert [message.body for message in await log.read_messages(7)] == [b"1"]
    kafka.append_record("orders", b"key", b"2")
    consumer.pause(TopicPartition("orders", 0))  # as if nobody answered
    async with asyncio.timeout(5):
        with pytest.raises(KafkaTimeoutError, match="nothing has come of orders/0"):
            await log.read_messages(7)


async def test_a_group_without_a_position_skips_what_the_inbox_has_forgotten(
    kafka: Broker, producer: AIOKafkaProducer, topics: list[str]
) -> None:
    now_ms, age_ms = int(time.time() * 1000), int(NEW_READER_AGE.total_seconds() * 1000)
    for number in range(30):
        await producer.send_and_wait(topics[0], b"old", key=b"%d" % number, timestamp_ms=now_ms - age_ms - 60_000)
    await producer.send_and_wait(topics[0], b"young", key=b"1", timestamp_ms=now_ms - age_ms + 3_600_000)
    received: list[bytes] = []

    async def handle(batch: list[IncomingMessage]) -> list[HandlingResult]:
        received.extend(message.body for message in batch)
        return [DONE] * len(batch)

    topic = Topic(topics[0], "kernel", (Blank,), key="id", purpose="tests")
    bus = KafkaBus(KafkaServers(kafka.url), "test")
    await bus.start()
    reader = asyncio.create_task(bus.consume(Subscription("kernel", topic), handle))
    try:

        async def has_received() -> bool:
            return b"young" in received

        await wait_until(has_received, seconds=60)
        assert received == [b"young"]
    finally:
        await bus.stop()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await bus.close()
