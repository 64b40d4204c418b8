"""What FastStream does with a batch: the inbox on FastStream's TestBrokers, and each trap of FastStream's that would
lose messages or slow down. The contract suite has the same with brokers, and the retries that follow.
"""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest
from aio_pika.abc import AbstractIncomingMessage
from aiokafka import ConsumerRecord
from faststream import BaseMiddleware
from faststream.kafka import KafkaResponse, TestKafkaBroker
from faststream.message import StreamMessage
from faststream.rabbit import TestRabbitBroker

from caravan.bus import DONE, BatchHandler, HandlingResult, IncomingMessage, Result, Subscription
from caravan.bus.kafka import reader as kafka_reader
from caravan.bus.kafka.subscriber import add_subscriber as add_group_subscriber
from caravan.bus.kafka.subscriber import build_broker
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.rabbitmq import reader as rabbitmq_reader
from caravan.bus.rabbitmq.connections import RabbitConnection
from caravan.bus.rabbitmq.subscriber import add_subscriber as add_queue_subscriber
from caravan.clock import new_id, utc_now
from caravan.consumers import Consumers
from caravan.database import Database, UnitOfWork
from caravan.errors import MessageRejected
from caravan.inbox import Inbox
from caravan.messages import Binding, Delivery, Event, Exchange, OutgoingMessage, Topic, encode_message
from caravan.runtime import Backends
from caravan.telemetry import consumer_attributes, metrics
from tests.support.database import NOTE_TABLE, open_kernel_database


class Noted(Event):
    text: str


NOTED = Topic("inbox-noted", owner="inbox", events=(Noted,), key="text", purpose="test")
NOTES = Exchange("inbox-notes", owner="inbox", routes={"noted": Noted}, key="text", purpose="test")
SOURCES: dict[str, Topic | Binding] = {"kafka": NOTED, "rabbitmq": NOTES.bind("inbox", "noted")}
Publish = Callable[[list[OutgoingMessage]], Awaitable[list[HandlingResult]]]


@pytest.fixture(scope="module")
async def database(backends: Backends) -> AsyncIterator[Database]:
    async with open_kernel_database(backends, "kernel_pipeline", NOTE_TABLE) as opened:
        yield opened


@asynccontextmanager
async def publish_to_kafka(subscription: Subscription, handler: BatchHandler) -> AsyncIterator[Publish]:
    """FastStream's TestBroker delivers records, which a `GroupReader` would make incoming messages of."""

    async def as_batch(records: list[ConsumerRecord], parse: Any) -> Any:
        return await parse([kafka_reader.build_incoming(record) for record in records])

    broker = build_broker(KafkaServers("nowhere:9092"), "test", parser=as_batch)
    results: list[HandlingResult] = []
    broker.insert_middleware(_keep_results(results))
    subscriber = add_group_subscriber(broker, subscription, [subscription.channel], handler, settings={})
    async with TestKafkaBroker(broker):

        async def publish(messages: list[OutgoingMessage]) -> list[HandlingResult]:
            results.clear()
            records = [KafkaResponse(message.body, key=message.key.encode()) for message in messages]
            await broker.publish_batch(*records, topic=subscription.channel)
            return list(results)

        yield publish
    assert not subscriber.running


@asynccontextmanager
async def publish_to_rabbitmq(subscription: Subscription, handler: BatchHandler) -> AsyncIterator[Publish]:
    """As above, but a delivery at a time: FastStream has no batches there."""

    async def as_batch(received: AbstractIncomingMessage, parse: Any) -> Any:
        return await parse([rabbitmq_reader.build_incoming(received)])

    broker = RabbitConnection("amqp://nobody:nothing@nowhere/", "test", parser=as_batch)
    results: list[HandlingResult] = []
    broker.insert_middleware(_keep_results(results))
    subscriber = add_queue_subscriber(broker, subscription, handler, cast(Any, None), cast(Any, None))
    async with TestRabbitBroker(broker):

        async def publish(messages: list[OutgoingMessage]) -> list[HandlingResult]:
            results.clear()
            for message in messages:
                await broker.publish(message.body, queue=subscription.name, headers={"x-key": message.key})
            return list(results)

        yield publish
    assert not subscriber.running


TEST_BROKERS = {"kafka": publish_to_kafka, "rabbitmq": publish_to_rabbitmq}


def _keep_results(results: list[HandlingResult]) -> type[BaseMiddleware]:
    """The outermost middleware: a TestBroker would encode what the handler returns as a reply."""

    class KeepResults(BaseMiddleware):
        async def consume_scope(self, call_next: Any, msg: StreamMessage[Any]) -> bytes:
            results.extend(await call_next(msg))
            return b""

    return KeepResults


@asynccontextmanager
async def run_inbox(transport: str, database: Database) -> AsyncIterator[Publish]:
    consume = Consumers("inbox")

    @consume(SOURCES[transport])
    async def take_note(_: Any, uow: UnitOfWork, delivery: Delivery[Noted]) -> None:
        text = delivery.message.text
        if text.startswith("reject"):
            raise MessageRejected("it says so")
        if text.startswith("fail"):
            raise RuntimeError("no")
        await uow.execute("INSERT INTO note (text) VALUES ($1)", text)

    consumer = consume.handlers[0]
    context: Any = SimpleNamespace(service="inbox", database=database)
    async with TEST_BROKERS[transport](consumer.subscription, Inbox(consumer, context).process_batch) as publish:
        yield publish


def make_outgoing(transport: str, text: str, key: str = "key") -> OutgoingMessage:
    return encode_message(
        Noted(text=text),
        NOTED if transport == "kafka" else NOTES,
        key=key,
        source="test",
        time=utc_now(),
        traceparent=None,
        actor=None,
        message_id=new_id(),
    )


async def count_notes(database: Database, *texts: str) -> int:
    return int(await database.fetchval("SELECT count(*) FROM note WHERE text = ANY($1)", texts))


@pytest.mark.parametrize("transport", TEST_BROKERS)
async def test_a_message_that_comes_twice_has_its_effect_once(transport: str, database: Database) -> None:
    text = str(new_id())
    outgoing = make_outgoing(transport, text)
    async with run_inbox(transport, database) as publish:
        assert await publish([outgoing, outgoing]) == [DONE, DONE]
        assert await publish([outgoing]) == [DONE]
    assert await count_notes(database, text) == 1


@pytest.mark.parametrize("transport", TEST_BROKERS)
async def test_a_poison_message_harms_only_itself(transport: str, database: Database) -> None:
    good, bad = str(new_id()), f"fail {new_id()}"
    unreadable = make_outgoing(transport, "never")._replace(body=b"{")
    messages = [
        make_outgoing(transport, bad, "bad"),
        unreadable,
        make_outgoing(transport, "reject"),
        make_outgoing(transport, good),
    ]
    async with run_inbox(transport, database) as publish:
        results = await publish(messages)
    assert [each.result for each in results] == [Result.RETRY, Result.DEAD, Result.DEAD, Result.DONE]
    assert [each.reason for each in results[:3]][0::2] == ["RuntimeError: no", "it says so"]
    assert await count_notes(database, good, bad) == 1


async def test_what_follows_a_failed_message_under_its_key_waits_behind_it(database: Database) -> None:
    later = str(new_id())
    async with run_inbox("kafka", database) as publish:
        results = await publish([make_outgoing("kafka", "fail"), make_outgoing("kafka", later)])
    assert [each.result for each in results] == [Result.RETRY, Result.BLOCKED]
    assert await count_notes(database, later) == 0


@pytest.mark.parametrize("transport", TEST_BROKERS)
async def test_the_metrics_have_our_names(transport: str, database: Database) -> None:
    labels = ("inbox", Subscription("inbox", SOURCES[transport]).channel)

    def read_counts() -> list[float]:
        counters = [metrics.MESSAGES_HANDLED.labels(*labels, result) for result in ("done", "dead")]
        return [*(each._value.get() for each in counters), metrics.HANDLER_DURATION.labels(*labels)._sum.get()]

    done, dead, seconds = read_counts()
    async with run_inbox(transport, database) as publish:
        await publish([make_outgoing(transport, str(new_id())), make_outgoing(transport, "reject")])
    assert read_counts()[:2] == [done + 1, dead + 1]
    assert read_counts()[2] > seconds


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


@pytest.mark.parametrize("transport", TEST_BROKERS)
async def test_a_batch_is_freed_as_soon_as_it_is_handled(transport: str) -> None:
    """FastStream keeps what a decoder returns in the message: were it the message, only the collector would free it."""
    subscriber = await start_subscriber(transport, finish_batch)
    batch = make_batch()
    origin = weakref.ref(batch[0].handle)
    gc.collect()
    gc.disable()
    try:
        assert await subscriber.run_batch(batch) == [DONE]
        del batch
        assert origin() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("transport", TEST_BROKERS)
async def test_what_a_handler_raises_reaches_the_reader(transport: str) -> None:
    """FastStream's own loop would log it and go on with the next message."""

    async def lose_database(_: list[IncomingMessage]) -> list[HandlingResult]:
        raise ConnectionResetError("the database is away")

    subscriber = await start_subscriber(transport, lose_database)
    with pytest.raises(ConnectionResetError, match="the database is away"):
        await subscriber.run_batch(make_batch())


@pytest.mark.parametrize("transport", TEST_BROKERS)
async def test_an_exception_that_a_middleware_swallows_is_not_taken_for_success(transport: str) -> None:
    async def lose_database(_: list[IncomingMessage]) -> list[HandlingResult]:
        raise ConnectionResetError("the database is away")

    class Swallow(BaseMiddleware):
        async def __aexit__(self, *_: Any) -> bool:
            return True

    subscriber = await start_subscriber(transport, lose_database, Swallow)
    with pytest.raises(RuntimeError, match="a middleware of the broker swallowed an exception"):
        await subscriber.run_batch(make_batch())


@pytest.mark.parametrize("transport", TEST_BROKERS)
async def test_what_is_cancelled_in_a_handler_is_cancelled(transport: str) -> None:
    started = asyncio.Event()

    async def hang_forever(_: list[IncomingMessage]) -> list[HandlingResult]:
        started.set()
        await asyncio.Event().wait()
        return []

    subscriber = await start_subscriber(transport, hang_forever)
    running = asyncio.create_task(subscriber.run_batch(make_batch()))
    await started.wait()
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert running.cancelled()
    async with asyncio.timeout(1):
        await subscriber.stop()


@pytest.mark.parametrize("transport", TEST_BROKERS)
async def test_the_handler_s_spans_say_which_transport_and_subscription_it_is(transport: str) -> None:
    attributes: list[Any] = []

    async def note_attributes(batch: list[IncomingMessage]) -> list[HandlingResult]:
        attributes.append(consumer_attributes.get())
        return await finish_batch(batch)

    subscriber = await start_subscriber(transport, note_attributes)
    await subscriber.run_batch(make_batch())
    subscription = Subscription("inbox", SOURCES[transport])
    assert attributes == [
        {
            "messaging.system": transport,
            "messaging.destination.name": subscription.channel,
            "messaging.consumer.group.name": subscription.name,
        }
    ]
    assert not consumer_attributes.get()
