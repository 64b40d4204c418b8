"""The inbox on FastStream's TestBrokers; the contract suite has the same with brokers, and the retries that follow."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aio_pika.abc import AbstractIncomingMessage
from aiokafka import ConsumerRecord
from faststream import BaseMiddleware
from faststream.kafka import KafkaResponse, TestKafkaBroker
from faststream.message import StreamMessage
from faststream.rabbit import TestRabbitBroker

from caravan.bus import DONE, BatchHandler, HandlingResult, Result, Subscription
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
from caravan.telemetry import metrics
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


def make_outgoing(
    transport: str, text: str, key: str = "key", *, traceparent: str | None = None, tracestate: str | None = None
) -> OutgoingMessage:
    return encode_message(
        Noted(text=text),
        NOTED if transport == "kafka" else NOTES,
        key=key,
        source="test",
        time=utc_now(),
        traceparent=traceparent,
        tracestate=tracestate,
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
