"""A member of a group as FastStream's subscriber: when it subscribes, and with which settings."""

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

from caravan.bus import Subscription
from caravan.bus.kafka.subscriber import add_subscriber, build_broker
from caravan.bus.kafka_servers import KafkaServers
from caravan.messages import Event, Topic


class Seen(Event):
    number: int


class FakeConsumer:
    """Notes what it was asked, in order."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.calls: list[str] = []
        self._fetcher = SimpleNamespace(_prefetch_backoff=0.1)

    async def start(self) -> None:
        await asyncio.sleep(0)
        self.calls.append("start")

    async def stop(self) -> None:
        self.calls.append("stop")

    def subscribe(self, topics: list[str], listener: Any) -> None:
        self.calls.append(f"subscribe {topics}")


async def test_a_consumer_subscribes_when_it_has_started() -> None:
    """aiokafka's `start` waits for the topics of a subscription, for ever where one is missing."""
    broker = build_broker(KafkaServers("nowhere:9092"), "test")
    await broker.connect()
    broker.config.broker_config.builder = FakeConsumer
    subscription = Subscription("reader", Topic("seen", "test", (Seen,), "key", "test"))
    handler: Any = asyncio.sleep
    subscriber = add_subscriber(broker, subscription, ["seen"], handler, settings={"fetch_max_wait_ms": 7})
    await subscriber.start()
    consumer: Any = subscriber.consumer
    await subscriber.stop()
    assert consumer.calls == ["start", "subscribe ['seen']", "stop"]
    assert subscriber.consumer is None
    assert (consumer.settings["enable_auto_commit"], consumer.settings["group_id"]) == (False, "reader.seen")
    assert consumer.settings["fetch_max_wait_ms"] == 7


async def test_the_broker_forgets_a_subscriber_that_nobody_uses() -> None:
    """A reader that joins again makes a new one; the old ones would add up."""
    broker = build_broker(KafkaServers("nowhere:9092"), "test")
    subscription = Subscription("reader", Topic("seen", "test", (Seen,), "key", "test"))
    handler: Any = asyncio.sleep
    for _ in range(3):
        add_subscriber(broker, subscription, ["seen"], handler, settings={})
    gc.collect()
    assert broker.subscribers == []
