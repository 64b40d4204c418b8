"""What the bus of queues and exchanges tells its callers: which messages RabbitMQ did not take, and why it can't be
asked.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aio_pika.exceptions import AMQPConnectionError

from caravan.bus import DEAD_LETTER_MAX_BYTES, DONE, HandlingResult, IncomingMessage, Result, Subscription
from caravan.bus.rabbitmq import RabbitBus
from caravan.clock import new_id
from caravan.messages import Command, Event, Exchange, OutgoingMessage, Queue, RetryPolicy
from caravan.telemetry.metrics import QUEUE_CONSUMERS
from tests.caravan.bus.publishing import BY_EARLIER, publish_and_fail
from tests.caravan.bus.rabbitmq.fake_rabbitmq import FakeRabbitmq
from tests.caravan.bus.waiting import wait_for


class Count(Command):
    number: int


class Announced(Event):
    number: int


COUNT = Subscription(
    "reader", Queue("test.count", "test", (Count,), "number", "test", retry=RetryPolicy(delays=(30.0, 30.0)))
)
ANNOUNCEMENTS = Exchange("test-news", owner="test", routes={"announced": Announced}, key="number", purpose="test")
LISTENER = Subscription("reader", ANNOUNCEMENTS.bind("reader", "announced", retry=RetryPolicy(delays=())))


@pytest.fixture
async def bus(fake_rabbitmq: FakeRabbitmq) -> AsyncIterator[RabbitBus]:
    """With a queue, and an exchange that a queue is bound to."""
    for name in (COUNT.name, LISTENER.name):
        fake_rabbitmq.add_queue(name, f"{name}.dlq")
    fake_rabbitmq.add_queue(f"{COUNT.name}.retry.1", f"{COUNT.name}.retry.2")
    fake_rabbitmq.bound_queues[ANNOUNCEMENTS.name] = [LISTENER.name]
    opened = RabbitBus("amqp://nobody:nothing@nowhere/", "test")
    yield opened
    await opened.close()
    assert all(connection.is_closed for connection in fake_rabbitmq.connections)


def make_message(key: str, body: bytes, queue: str = COUNT.name) -> OutgoingMessage:
    return OutgoingMessage("queue", queue, "", key, new_id(), body)


@asynccontextmanager
async def consume_count(
    bus: RabbitBus, *results: HandlingResult
) -> AsyncIterator[tuple[asyncio.Task[None], list[bytes]]]:
    """A consumer whose handler gives these results, and then is done with everything."""
    bodies: list[bytes] = []
    remaining = list(results)

    async def handle_batch(batch: list[IncomingMessage]) -> list[HandlingResult]:
        bodies.extend(incoming.body for incoming in batch)
        return [remaining.pop(0) if remaining else DONE for _ in batch]

    consuming = asyncio.create_task(bus.consume(COUNT, handle_batch))
    try:
        yield consuming, bodies
    finally:
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)


async def test_a_message_arrives_with_its_key_and_its_id(bus: RabbitBus, fake_rabbitmq: FakeRabbitmq) -> None:
    command = make_message("order-1", b"0")
    event = OutgoingMessage("exchange", ANNOUNCEMENTS.name, "announced", "order-1", new_id(), b"1")
    await bus.publish([command, event])
    for queue, sent in ((COUNT.name, command), (LISTENER.name, event)):
        (delivery,) = fake_rabbitmq.queues[queue].ready
        assert (delivery.body, delivery.message_id, delivery.headers["x-key"]) == (sent.body, str(sent.id), "order-1")
        assert "traceparent" not in delivery.headers


async def test_a_message_names_its_trace_in_a_header_for_readers_that_are_not_ours(
    bus: RabbitBus, fake_rabbitmq: FakeRabbitmq
) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    await bus.publish([make_message("order-1", b'{"data":{},"traceparent":"%b"}' % trace.encode())])
    (delivery,) = fake_rabbitmq.queues[COUNT.name].ready
    assert delivery.headers["traceparent"] == trace


async def test_a_message_that_is_too_large_is_refused_for_good_and_holds_back_its_key_alone(
    bus: RabbitBus, fake_rabbitmq: FakeRabbitmq
) -> None:
    fake_rabbitmq.size_limit = 5
    sent = [make_message("a", b"0"), make_message("b", b"too large"), make_message("b", b"1")]
    failures = await publish_and_fail(bus, *sent, make_message("b", b"2", LISTENER.name))
    assert failures == {b"too large": ("message of 9 bytes is too large", True), b"1": (BY_EARLIER, False)}
    assert fake_rabbitmq.read_bodies(COUNT.name) == [b"0"]
    assert fake_rabbitmq.read_bodies(LISTENER.name) == [b"2"]


async def test_what_is_not_confirmed_is_not_refused_for_good_and_nothing_of_its_key_overtakes_it(
    bus: RabbitBus, fake_rabbitmq: FakeRabbitmq
) -> None:
    """A queue that is full may refuse one and take the next."""
    fake_rabbitmq.failures[f"publish to {COUNT.name}"] = AMQPConnectionError("nack")
    messages = [make_message("a", b"0"), make_message("a", b"1"), make_message("b", b"2")]
    failures = await publish_and_fail(bus, *messages)
    assert {body: permanent for body, (_, permanent) in failures.items()} == {b"0": False, b"1": False}
    assert "is the broker up, and does the queue exist and have room?" in failures[b"0"][0]
    await bus.publish(messages[:2])
    assert fake_rabbitmq.read_bodies(COUNT.name) == [b"2", b"0", b"1"]


async def test_a_queue_or_exchange_that_is_not_there_holds_back_its_own_messages_only(
    bus: RabbitBus, fake_rabbitmq: FakeRabbitmq
) -> None:
    event = OutgoingMessage("exchange", "nowhere", "announced", "a", new_id(), b"1")
    failures = await publish_and_fail(bus, make_message("a", b"0", "nowhere"), event, make_message("a", b"2"))
    assert {body: permanent for body, (_, permanent) in failures.items()} == {b"0": False, b"1": False}
    assert fake_rabbitmq.read_bodies(COUNT.name) == [b"2"]


async def test_without_a_broker_a_publish_fails_and_starting_says_so(
    bus: RabbitBus, fake_rabbitmq: FakeRabbitmq
) -> None:
    fake_rabbitmq.failures["connect"] = AMQPConnectionError("nobody there")
    assert "nobody there" in (await publish_and_fail(bus, make_message("a", b"0")))[b"0"][0]
    fake_rabbitmq.failures["connect"] = AMQPConnectionError("nobody there")
    with pytest.raises(ConnectionError, match="RabbitMQ can't be reached"):
        await bus.start()
    await bus.start()


async def test_publishing_and_consuming_have_a_connection_each(bus: RabbitBus, fake_rabbitmq: FakeRabbitmq) -> None:
    """A broker short of memory blocks the one, and acknowledgements must still get through."""
    async with consume_count(bus) as (_, bodies):
        await bus.publish([make_message("a", b"0")])
        await wait_for(lambda: bodies == [b"0"])
        names = {each.options["client_properties"]["connection_name"] for each in fake_rabbitmq.connections}
        assert names == {"test publish", "test consume"}


async def test_a_consumer_that_lost_its_channel_takes_another_and_what_was_not_acknowledged_comes_again(
    bus: RabbitBus, fake_rabbitmq: FakeRabbitmq
) -> None:
    async with consume_count(bus, HandlingResult(Result.RETRY, "failed")) as (consuming, bodies):
        await bus.publish([make_message("a", b"0")])
        await wait_for(lambda: bool(fake_rabbitmq.publishes[f"{COUNT.name}.retry.1"]))
        fake_rabbitmq.queues[COUNT.name].consumers[0][0].end()
        await wait_for(lambda: bodies == [b"0", b"0"])
        await bus.stop()
        await asyncio.wait_for(consuming, 5)
    assert all(channel.is_closed for channel in fake_rabbitmq.channels if channel.last_tag)


async def test_a_consumer_waits_for_a_broker_that_is_not_there_yet(bus: RabbitBus, fake_rabbitmq: FakeRabbitmq) -> None:
    fake_rabbitmq.failures["connect"] = AMQPConnectionError("nobody there")
    fake_rabbitmq.put_message(COUNT.name, b"0", key="a")
    async with consume_count(bus) as (_, bodies):
        await wait_for(lambda: bodies == [b"0"])


async def test_a_consumer_that_is_stopped_while_it_connects_takes_no_batch(
    bus: RabbitBus, fake_rabbitmq: FakeRabbitmq
) -> None:
    fake_rabbitmq.put_message(COUNT.name, b"0", key="a")
    answered = fake_rabbitmq.withhold_answer("open channel")
    async with consume_count(bus) as (consuming, bodies):
        await wait_for(lambda: "open channel" in fake_rabbitmq.operations)
        await bus.stop()
        answered.set()
        await asyncio.wait([consuming], timeout=2)
        assert consuming.done()
    assert bodies == []


async def test_lag_is_what_is_ready_and_what_waits_in_the_tiers(bus: RabbitBus, fake_rabbitmq: FakeRabbitmq) -> None:
    assert await bus.measure_lag([]) == {}
    for queue in (COUNT.name, COUNT.name, f"{COUNT.name}.retry.1", f"{COUNT.name}.retry.2", f"{COUNT.name}.dlq"):
        fake_rabbitmq.put_message(queue, b"{}")
    assert await bus.measure_lag([COUNT, LISTENER]) == {COUNT.name: 4, LISTENER.name: 0}
    assert QUEUE_CONSUMERS.labels("reader", COUNT.channel)._value.get() == 0
    del fake_rabbitmq.queues[f"{COUNT.name}.retry.2"]
    with pytest.raises(ConnectionError, match=r"can't be asked.*no queue"):
        await bus.measure_lag([COUNT])
    assert all(channel.is_closed for channel in fake_rabbitmq.channels)


async def test_a_broker_that_counts_nothing_is_waited_for_until_a_deadline(
    bus: RabbitBus, fake_rabbitmq: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caravan.bus.rabbitmq.bus.CONNECT_SECONDS", 0.02)
    fake_rabbitmq.withhold_answer(f"declare {COUNT.name}")
    with pytest.raises(ConnectionError, match=r"can't be asked.*TimeoutError"):
        await bus.measure_lag([COUNT])


async def test_a_reader_that_the_broker_does_not_know_three_times_in_a_row_starts_anew(
    bus: RabbitBus, fake_rabbitmq: FakeRabbitmq
) -> None:
    queue = fake_rabbitmq.queues[COUNT.name]
    async with consume_count(bus):
        await wait_for(lambda: bool(queue.consumers))
        lost = queue.consumers[0][0]
        for is_known in (False, False, True, False, False):
            known, queue.consumers = queue.consumers, queue.consumers if is_known else []
            await bus.measure_lag([COUNT])
            queue.consumers = known
        was_closed = lost.is_closed
        queue.consumers = []
        await bus.measure_lag([COUNT])
        assert (was_closed, lost.is_closed) == (False, True), "it was known in between"
        await wait_for(lambda: bool(queue.consumers))


async def test_a_message_that_is_given_up_can_be_listed_redriven_and_discarded(
    bus: RabbitBus, fake_rabbitmq: FakeRabbitmq
) -> None:
    dead = [HandlingResult(Result.DEAD, "rejected")] * 2
    sent = [make_message("order-1", b"0"), make_message("order-2", b"1")]
    async with consume_count(bus, *dead) as (_, bodies):
        await bus.publish(sent)
        await wait_for(lambda: len(fake_rabbitmq.read_bodies(f"{COUNT.name}.dlq")) == 2)
        listed = await bus.list_dead_letters([COUNT, LISTENER])
        assert [(each.key, each.body, each.reason) for each in listed] == [
            ("order-1", b"0", "rejected"),
            ("order-2", b"1", "rejected"),
        ]
        assert await bus.list_dead_letters([COUNT], limit=1) == listed[:1]
        assert await bus.redrive(listed[:1]) == 1
        await wait_for(lambda: bodies == [b"0", b"1", b"0"])
        assert fake_rabbitmq.publishes[COUNT.name][-1].message_id == str(sent[0].id)
        assert await bus.discard(listed) == 1, "the other has gone"
        assert await bus.list_dead_letters([COUNT]) == []


async def test_what_is_not_whole_or_not_taken_stays_a_dead_letter(bus: RabbitBus, fake_rabbitmq: FakeRabbitmq) -> None:
    dlq = f"{COUNT.name}.dlq"
    fake_rabbitmq.put_message(dlq, b"beginning", key="a", letter="1", size=DEAD_LETTER_MAX_BYTES + 1)
    fake_rabbitmq.put_message(dlq, b"whole", key="a", letter="2")
    listed = await bus.list_dead_letters([COUNT])
    assert await bus.redrive([each for each in listed if not each.redrivable]) == 0
    fake_rabbitmq.failures[f"publish to {COUNT.name}"] = AMQPConnectionError("gone")
    with pytest.raises(ConnectionError, match=f"the dead letters of {COUNT.name} can't be read"):
        await bus.redrive(listed)
    await wait_for(lambda: fake_rabbitmq.read_bodies(dlq) == [b"beginning", b"whole"])
    assert await bus.redrive(listed) == 1
    assert (fake_rabbitmq.read_bodies(dlq), fake_rabbitmq.read_bodies(COUNT.name)) == ([b"beginning"], [b"whole"])
