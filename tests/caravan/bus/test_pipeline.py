"""What FastStream does with a batch: each trap of its that would lose messages or slow down."""

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest
from faststream import BaseMiddleware

from caravan.bus import DONE, BatchHandler, HandlingResult, IncomingMessage, Subscription
from caravan.bus.kafka.subscriber import add_subscriber as add_group_subscriber
from caravan.bus.kafka.subscriber import build_broker
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.pipeline import run_pipeline
from caravan.bus.rabbitmq.connections import RabbitConnection
from caravan.bus.rabbitmq.subscriber import add_subscriber as add_queue_subscriber
from caravan.messages import Binding, Event, Exchange, Topic
from caravan.telemetry import consumer_attributes

TRANSPORTS = ["kafka", "rabbitmq"]


class Noted(Event):
    text: str


NOTED = Topic("inbox-noted", owner="inbox", events=(Noted,), key="text", purpose="test")
NOTES = Exchange("inbox-notes", owner="inbox", routes={"noted": Noted}, key="text", purpose="test")
SOURCES: dict[str, Topic | Binding] = {"kafka": NOTED, "rabbitmq": NOTES.bind("inbox", "noted")}


class Origin(SimpleNamespace):
    """A record or a delivery, as far as FastStream's message names it."""


def make_batch() -> list[IncomingMessage]:
    origin = Origin(topic="noted", partition=0, offset=1, message_id="1")
    return [IncomingMessage("key", b"body", 1, origin)]


async def start_subscriber(transport: str, handler: BatchHandler, *middlewares: Any) -> Any:
    """Started as far as it goes without a broker."""
    subscription = Subscription("inbox", SOURCES[transport])
    subscriber: Any
    if transport == "kafka":
        kafka = build_broker(KafkaServers("nowhere:9092"), "test")
        await kafka.connect()
        kafka.config.broker_config.builder = lambda **_: AsyncMock(subscribe=Mock())
        for middleware in middlewares:
            kafka.add_middleware(middleware)
        subscriber = add_group_subscriber(kafka, subscription, ["noted"], handler, settings={})
    else:
        rabbit = RabbitConnection("amqp://nobody:nothing@nowhere/", "test")
        rabbit._setup_logger()
        for middleware in middlewares:
            rabbit.add_middleware(middleware)
        subscriber = add_queue_subscriber(rabbit, subscription, handler, AsyncMock(), cast(Any, None))
    await subscriber.start()
    return subscriber


async def finish_batch(batch: list[IncomingMessage]) -> list[HandlingResult]:
    return [DONE] * len(batch)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_batch_is_freed_as_soon_as_it_is_handled(transport: str) -> None:
    """FastStream keeps what a decoder returns in the message: were it the message, only the collector would free it."""
    subscriber = await start_subscriber(transport, finish_batch)
    batch = make_batch()
    origin = weakref.ref(batch[0].handle)
    gc.collect()
    gc.disable()
    try:
        assert await run_pipeline(subscriber, batch) == [DONE]
        del batch
        assert origin() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_a_handler_raises_reaches_the_reader(transport: str) -> None:
    """FastStream's own loop would log it and go on with the next message."""

    async def lose_database(_: list[IncomingMessage]) -> list[HandlingResult]:
        raise ConnectionResetError("the database is away")

    subscriber = await start_subscriber(transport, lose_database)
    with pytest.raises(ConnectionResetError, match="the database is away"):
        await run_pipeline(subscriber, make_batch())


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_exception_that_a_middleware_swallows_is_not_taken_for_success(transport: str) -> None:
    async def lose_database(_: list[IncomingMessage]) -> list[HandlingResult]:
        raise ConnectionResetError("the database is away")

    class Swallow(BaseMiddleware):
        async def __aexit__(self, *_: Any) -> bool:
            return True

    subscriber = await start_subscriber(transport, lose_database, Swallow)
    with pytest.raises(RuntimeError, match="a middleware of the broker swallowed an exception"):
        await run_pipeline(subscriber, make_batch())


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_is_cancelled_in_a_handler_is_cancelled(transport: str) -> None:
    started = asyncio.Event()

    async def hang_forever(_: list[IncomingMessage]) -> list[HandlingResult]:
        started.set()
        await asyncio.Event().wait()
        return []

    subscriber = await start_subscriber(transport, hang_forever)
    running = asyncio.create_task(run_pipeline(subscriber, make_batch()))
    await started.wait()
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert running.cancelled()
    async with asyncio.timeout(1):
        await subscriber.stop()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_handler_s_spans_say_which_transport_and_subscription_it_is(transport: str) -> None:
    attributes: list[Any] = []

    async def note_attributes(batch: list[IncomingMessage]) -> list[HandlingResult]:
        attributes.append(consumer_attributes.get())
        return await finish_batch(batch)

    subscriber = await start_subscriber(transport, note_attributes)
    await run_pipeline(subscriber, make_batch())
    subscription = Subscription("inbox", SOURCES[transport])
    assert attributes == [
        {
            "messaging.system": transport,
            "messaging.destination.name": subscription.channel,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": subscription.name,
        }
    ]
    assert not consumer_attributes.get()
