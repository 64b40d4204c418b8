"""A RabbitMQ that goes away at an awkward moment is told as what it is: a lost connection."""

import asyncio
from typing import Any, cast

import aio_pika
import aio_pika.abc
import pytest
from aio_pika.abc import UnderlayConnection

from caravan.bus import Subscription
from caravan.bus.rabbitmq import RabbitBus
from caravan.bus.rabbitmq.connections import RabbitConnection
from caravan.bus.rabbitmq.reader import QueueReader
from caravan.clock import utc_now
from tests.contract.bus_messages import Recorder, make_queue
from tests.support.backends import Broker
from tests.support.shop import wait_until


@pytest.mark.parametrize("raised", [StopAsyncIteration(), ConnectionResetError(), RuntimeError("Connection was stuck")])
async def test_whatever_the_client_raises_of_a_broker_that_goes_is_a_lost_connection(
    monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    """StopAsyncIteration: the broker closed between two steps of the handshake, which only a restart at the right
    moment shows.
    """

    connections: list[aio_pika.Connection] = []

    async def fail_to_connect(connection: aio_pika.Connection, **_: Any) -> None:
        connections.append(connection)
        raise raised

    monkeypatch.setattr(aio_pika.Connection, "connect", fail_to_connect)
    with pytest.raises(ConnectionError, match="RabbitMQ can't be reached"):
        await RabbitConnection("amqp://caravan:caravan@127.0.0.1/", "test").open_channel()
    assert [connection.is_closed for connection in connections] == [True], (
        "or its destructor closes it, in a task that nobody awaits"
    )


async def test_a_broker_that_hangs_up_at_once_is_a_lost_connection() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        connection = RabbitConnection(f"amqp://caravan:caravan@127.0.0.1:{server.sockets[0].getsockname()[1]}/", "test")
        for _ in range(20):
            with pytest.raises(ConnectionError, match="RabbitMQ can't be reached"):
                await connection.open_channel()


async def test_a_lost_connection_is_closed_before_another_takes_its_place(rabbitmq: Broker) -> None:
    """Its destructor would close it, where the collector finds it: on another loop, or none."""
    connection = RabbitConnection(rabbitmq.url, "test")
    await connection.open_channel()
    lost = connection._connection
    assert lost is not None
    assert lost.transport is not None
    await lost.transport.connection.close(ConnectionResetError())
    await wait_until(lambda: _is_lost(lost))
    assert type(lost) is aio_pika.Connection, "FastStream's own is robust: it would come back by itself"
    await connection.open_channel()
    assert connection._connection is not lost
    assert lost.is_closed
    await connection.stop()


async def test_a_connection_that_can_not_be_closed_is_closed(rabbitmq: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = RabbitConnection(rabbitmq.url, "test")
    await connection.open_channel()
    opened = connection._connection
    assert opened is not None
    close_transport = UnderlayConnection.close

    async def close_and_fail(transport: UnderlayConnection, error: Any) -> None:
        await close_transport(transport, error)
        raise ConnectionResetError

    monkeypatch.setattr(UnderlayConnection, "close", close_and_fail)
    await connection.stop()
    assert opened.is_closed


async def _is_lost(connection: aio_pika.abc.AbstractConnection) -> bool:
    return not connection.connected.is_set() and not connection.is_closed


async def test_a_reader_ends_when_it_is_told_to_in_the_moment_its_channel_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """aiormq then raises the channel's error in place of the cancellation."""

    async def answer_with_an_error(_: RabbitBus) -> aio_pika.abc.AbstractChannel:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the channel was closed") from None
        raise AssertionError

    monkeypatch.setattr(RabbitBus, "_open_channel", answer_with_an_error)
    bus = RabbitBus("amqp://caravan:caravan@127.0.0.1/", "test")
    reading = asyncio.create_task(bus.consume(Subscription("reader", make_queue()), Recorder().process_batch))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading], timeout=5)
    assert reading.cancelled()


def _make_reader() -> QueueReader:
    broker = RabbitConnection("amqp://caravan:caravan@127.0.0.1/", "test")
    channel, publish = cast(Any, None), cast(Any, None)
    subscription = Subscription("reader", make_queue(), batch=20)
    return QueueReader(broker, channel, publish, utc_now, subscription, Recorder().process_batch)


@pytest.mark.parametrize("ticks", range(6))
async def test_a_reader_that_is_ended_in_the_moment_a_message_arrives_ends(ticks: int) -> None:
    """Python 3.11's `wait_for` forgets to end when what it waits for has just happened; the message would be handled,
    and the next, and the process never stop.
    """
    reader = _make_reader()
    waiting = asyncio.create_task(reader._receive_batch(10))
    for _ in range(6):
        await asyncio.sleep(0)
    await reader._receive_delivery(cast(Any, aio_pika.Message(b"")))
    for _ in range(ticks):
        await asyncio.sleep(0)
    if waiting.cancel():  # otherwise the message was there before the end
        await asyncio.wait([waiting])
        assert waiting.cancelled()


async def test_a_reader_at_rest_ends_as_soon_as_it_is_stopped() -> None:
    reader = _make_reader()
    waiting = asyncio.create_task(reader._receive_batch(3600))
    await asyncio.sleep(0)
    reader.stop()
    async with asyncio.timeout(1):
        assert await waiting == []
        assert await reader._receive_batch(3600) == [], "whatever would wait after it, too"
