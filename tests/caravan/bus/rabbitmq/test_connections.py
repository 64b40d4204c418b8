"""A connection is opened when it is needed and never shared when it is lost, and a publish is confirmed or an error."""

import asyncio

import aio_pika
import pytest
from aio_pika.exceptions import AMQPConnectionError, ChannelNotFoundEntity, DeliveryError

from caravan.bus.rabbitmq import connections
from caravan.bus.rabbitmq.connections import BROKER_ERRORS, Publisher, RabbitConnection
from caravan.bus.rabbitmq.messages import build_message
from tests.caravan.bus.rabbitmq.fake_rabbitmq import FakeRabbitmq

URL = "amqp://user:secret@nowhere/"


@pytest.fixture
def publisher(fake_rabbitmq: FakeRabbitmq) -> Publisher:
    """On a broker with two queues and an exchange that one of them is bound to."""
    fake_rabbitmq.add_queue("first", "second")
    fake_rabbitmq.bound_queues["announced"] = ["first"]
    return Publisher(RabbitConnection(URL, "test"))


def make_message(body: bytes = b"{}") -> aio_pika.Message:
    return build_message(body, "key", "id-1")


async def test_those_that_come_at_once_share_a_connection_with_a_heartbeat(fake_rabbitmq: FakeRabbitmq) -> None:
    connection = RabbitConnection(URL, "orders publish")
    channels = await asyncio.gather(*(connection.open_channel() for _ in range(3)))
    assert len(set(map(id, channels))) == 3
    (opened,) = fake_rabbitmq.connections
    assert opened.url.endswith("?heartbeat=20")
    assert opened.options["client_properties"] == {"connection_name": "orders publish"}
    await connection.stop()
    assert opened.is_closed


async def test_a_lost_connection_is_closed_and_the_next_one_who_needs_a_channel_opens_another(
    fake_rabbitmq: FakeRabbitmq,
) -> None:
    connection = RabbitConnection(URL, "test")
    await connection.open_channel()
    fake_rabbitmq.connections[0].connected.clear()
    await connection.open_channel()
    assert [each.is_closed for each in fake_rabbitmq.connections] == [True, False]
    await connection.stop()
    await connection.open_channel()
    assert [each.is_closed for each in fake_rabbitmq.connections] == [True, True, False]


@pytest.mark.parametrize("error", [AMQPConnectionError("refused"), OSError("refused"), RuntimeError("refused")])
async def test_one_that_is_not_opened_is_closed_and_the_error_says_what_went_wrong(
    fake_rabbitmq: FakeRabbitmq, error: Exception
) -> None:
    fake_rabbitmq.failures["connect"] = error
    connection = RabbitConnection(URL, "test")
    with pytest.raises(ConnectionError, match=r"RabbitMQ can't be reached.*refused"):
        await connection.open_channel()
    assert fake_rabbitmq.connections[0].is_closed
    await connection.open_channel()


@pytest.mark.parametrize("operation", ["connect", "open channel"])
async def test_a_broker_that_gives_no_answer_is_waited_for_until_a_deadline(
    fake_rabbitmq: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.02)
    monkeypatch.setattr("caravan.bus.opening._LONGER_SECONDS", 0.02)
    fake_rabbitmq.withhold_answer(operation)
    async with asyncio.timeout(2):
        with pytest.raises(ConnectionError, match=r"RabbitMQ can't be reached.*TimeoutError"):
            await RabbitConnection(URL, "test").open_channel()
    left_open = fake_rabbitmq.channels if operation == "open channel" else fake_rabbitmq.connections
    assert [each.is_closed for each in left_open] == [True]


async def test_certificates_that_can_not_be_used_are_named(fake_rabbitmq: FakeRabbitmq) -> None:
    with pytest.raises(ConnectionError, match=r"nowhere/ca\.crt"):
        await RabbitConnection("amqps://nowhere/?cafile=nowhere/ca.crt", "test").open_channel()
    assert fake_rabbitmq.connections == []


@pytest.mark.parametrize("is_answering", [True, False])
async def test_stopping_waits_for_no_broker(
    fake_rabbitmq: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch, is_answering: bool
) -> None:
    monkeypatch.setattr(connections, "_CLOSE_SECONDS", 0.01)
    if is_answering:
        fake_rabbitmq.failures["close connection"] = ConnectionResetError()
    else:
        fake_rabbitmq.withhold_answer("close connection")
    connection = RabbitConnection(URL, "test")
    await connection.open_channel()
    async with asyncio.timeout(2):
        await connection.stop()
    assert fake_rabbitmq.connections[0].is_closed


async def test_a_message_to_a_queue_must_arrive_and_nobody_need_listen_to_an_exchange(
    publisher: Publisher, fake_rabbitmq: FakeRabbitmq
) -> None:
    await publisher("second", make_message(b"0"))
    await publisher("announced", make_message(b"1"), exchange=True, routing_key="thing.happened")
    assert (fake_rabbitmq.read_bodies("second"), fake_rabbitmq.read_bodies("first")) == ([b"0"], [b"1"])
    with pytest.raises(DeliveryError):
        await publisher("nowhere", make_message())
    fake_rabbitmq.bound_queues["silent"] = []
    await publisher("silent", make_message(), exchange=True)


async def test_each_target_has_a_confirmed_channel_so_that_one_that_is_missing_harms_no_other(
    publisher: Publisher, fake_rabbitmq: FakeRabbitmq
) -> None:
    await publisher("first", make_message())
    with pytest.raises(ChannelNotFoundEntity):
        await publisher("missing", make_message(), exchange=True)
    await publisher("first", make_message())
    assert [channel.is_closed for channel in fake_rabbitmq.channels] == [False, True]
    assert {tuple(channel.options.items()) for channel in fake_rabbitmq.channels} == {
        (("publisher_confirms", True), ("on_return_raises", True))
    }
    fake_rabbitmq.bound_queues["missing"] = ["first"]
    await publisher("missing", make_message(), exchange=True)
    assert fake_rabbitmq.read_bodies("first") == [b"{}"] * 3


async def test_a_publish_that_is_not_confirmed_in_time_fails_and_its_channel_is_not_used_again(
    publisher: Publisher, fake_rabbitmq: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it still holds must not arrive after newer messages."""
    monkeypatch.setattr(connections, "_PUBLISH_SECONDS", 0.02)
    fake_rabbitmq.withhold_answer("publish to first")
    with pytest.raises(TimeoutError):
        await publisher("first", make_message(b"late"))
    fake_rabbitmq.answers.clear()
    await publisher("first", make_message(b"newer"))
    assert [channel.is_closed for channel in fake_rabbitmq.channels] == [True, False]
    assert fake_rabbitmq.read_bodies("first") == [b"newer"]


async def test_a_late_failure_on_a_former_channel_leaves_its_successor_alone(
    publisher: Publisher, fake_rabbitmq: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two wait for confirmations on a channel; after the first has given it up, others publish on the next."""
    monkeypatch.setattr(connections, "_PUBLISH_SECONDS", 0.02)
    fake_rabbitmq.withhold_answer("publish to first")
    first = asyncio.create_task(publisher("first", make_message()))
    while "publish to first" not in fake_rabbitmq.operations:
        await asyncio.sleep(0)
    monkeypatch.setattr(connections, "_PUBLISH_SECONDS", 0.2)
    second = asyncio.create_task(publisher("first", make_message()))
    await asyncio.wait([first])
    fake_rabbitmq.answers.clear()
    await publisher("first", make_message())
    await asyncio.wait([second])
    await publisher("first", make_message())
    assert [type(each.exception()) for each in (first, second)] == [TimeoutError, TimeoutError]
    assert [channel.is_closed for channel in fake_rabbitmq.channels] == [True, False]


async def test_a_broker_that_gives_no_answer_is_waited_for_once_for_all_that_is_published(
    publisher: Publisher, fake_rabbitmq: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other would take hours with a batch of 500 keys, and hold up what goes to Kafka."""
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.02)
    monkeypatch.setattr("caravan.bus.opening._LONGER_SECONDS", 0.02)
    fake_rabbitmq.withhold_answer("open channel")
    publishes = [publisher(name, make_message()) for name in ("first", "second") * 10]
    async with asyncio.timeout(2):
        errors = await asyncio.gather(*publishes, return_exceptions=True)
    assert [type(error) for error in errors] == [ConnectionError] * 20
    assert fake_rabbitmq.operations.count("open channel") == 1
    fake_rabbitmq.answers.clear()
    await publisher("first", make_message())


async def test_what_is_published_while_the_channel_closes_was_not_taken(
    publisher: Publisher, fake_rabbitmq: FakeRabbitmq
) -> None:
    """aiormq raises a bare Exception then."""
    fake_rabbitmq.failures["publish to first"] = Exception()
    with pytest.raises(ConnectionError, match="before the broker confirmed"):
        await publisher("first", make_message())


async def test_whatever_the_broker_answers_is_among_the_errors_that_callers_expect(
    publisher: Publisher, fake_rabbitmq: FakeRabbitmq
) -> None:
    await publisher("first", make_message())
    for error in (AMQPConnectionError(), StopAsyncIteration(), RuntimeError(), ConnectionResetError()):
        fake_rabbitmq.failures["publish to first"] = error
        with pytest.raises(BROKER_ERRORS):
            await publisher("first", make_message())
