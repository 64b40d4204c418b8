"""Connections to RabbitMQ, opened when they are needed and opened again when they were lost.

Publishing and consuming have a connection each: a broker short of memory blocks the one, and acknowledgements must
still get through. Every publish has a deadline, and each target its own channel, because a missing exchange closes the
channel that was used.
"""

import asyncio
from contextlib import suppress
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError
from faststream.rabbit import RabbitBroker
from yarl import URL

from caravan.bus.opening import OpeningTurns, finish_opening
from caravan.bus.pipeline import ObserverMiddleware
from caravan.bus.topology.rabbitmq import describe_failure
from caravan.tls import get_url_context

CONNECT_SECONDS = 10.0
_HEARTBEAT_SECONDS = 20
_PUBLISH_SECONDS = 20.0
ACKNOWLEDGE_SECONDS = 5.0
_CLOSE_SECONDS = 5.0
BROKER_ERRORS = (AMQPError, OSError, RuntimeError, TimeoutError, StopAsyncIteration)
"""What the client raises when the broker is unavailable, refuses, has closed the channel (a RuntimeError), or goes in
the middle of a handshake (the last one).
"""


async def _open_connection(url: URL | str, name: str) -> AbstractConnection:
    """Raises what BROKER_ERRORS lists."""
    connection = aio_pika.Connection(
        URL(url), ssl_context=get_url_context(str(url)), client_properties={"connection_name": name}
    )
    try:
        await finish_opening(connection.connect())
    except BaseException:
        await _close_connection(connection)
        raise
    return connection


async def _close_connection(connection: AbstractConnection) -> None:
    """Also when the broker can't be told: what is not closed its destructor wants to close, on any loop or none."""
    try:
        with suppress(*BROKER_ERRORS):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await connection.close()
    finally:
        await connection.close()  # a second time it only notes that it is closed


async def _open_channel(channel: AbstractChannel) -> AbstractChannel:
    try:
        return await finish_opening(channel)
    except BaseException:
        if channel.is_initialized:
            await close_channel(channel)
        raise


class RabbitConnection(RabbitBroker):
    """FastStream's broker on one connection; `open_channel` opens it first where need be.

    FastStream's own connection is aio-pika's robust one, which opens itself and its channels again without its users
    knowing, while what they had not acknowledged is delivered again. Here a lost connection is closed, whoever uses it
    is told, and the next one who needs a channel opens another.
    """

    def __init__(self, url: str, name: str, **options: Any) -> None:
        super().__init__(
            url,
            middlewares=[ObserverMiddleware],
            graceful_timeout=None,  # a reader ends its batch itself before it stops its subscriber
            logger=None,
            apply_types=False,
            serializer=None,
            **options,
        )
        # A peer that is gone without a word is noticed after two heartbeats.
        self._url = URL(url).update_query(heartbeat=_HEARTBEAT_SECONDS)
        self._name = name
        self._opening = asyncio.Lock()

    async def _connect(self) -> Any:
        return await _open_connection(self._url, self._name)

    async def open_channel(self, **options: Any) -> AbstractChannel:
        """Raises ConnectionError, naming what went wrong, when the broker can't be reached."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                async with self._opening:
                    connection: AbstractConnection | None = self._connection
                    # `is_closed` is about our own closing; `connected` falls when the peer goes.
                    if connection is not None and (connection.is_closed or not connection.connected.is_set()):
                        await self._drop_connection()
                    connection = await self.connect()
                return await _open_channel(connection.channel(**options))
        except BROKER_ERRORS as error:
            raise ConnectionError(describe_failure(str(self._url), error)) from error

    async def stop(self, *raised: Any) -> None:
        await self._drop_connection()
        await super().stop(*raised)

    async def _drop_connection(self) -> None:
        """A lost one is closed, too: its destructor would do it otherwise, on any loop or none."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await _close_connection(connection)


class Publisher:
    """Publishes with the broker's confirmation; a message that no queue takes is an error."""

    def __init__(self, connection: RabbitConnection) -> None:
        self._connection = connection
        self._channels: dict[str, AbstractChannel] = {}
        self._opening = OpeningTurns()

    async def __call__(
        self, target: str, message: aio_pika.Message, *, exchange: bool = False, routing_key: str = ""
    ) -> None:
        """To a queue, where it must arrive, or to an exchange, where nobody may be listening. Raises what BROKER_ERRORS
        lists.
        """
        channel = await self._get_channel(target)
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS):
                underlay: Any = await channel.get_underlay_channel()
                # `wait=False`: the next message need not wait until this one has left the socket's buffer; all wait for
                # their confirmations.
                await underlay.basic_publish(
                    message.body,
                    exchange=target if exchange else "",
                    routing_key=routing_key if exchange else target,
                    properties=message.properties,
                    mandatory=not exchange,
                    wait=False,
                )
        except TimeoutError:
            if self._channels.get(target) is channel:  # others may publish on its successor by now
                del self._channels[target]
            await close_channel(channel)  # what it still holds must not arrive after newer ones
            raise
        except Exception as error:
            if type(error) is Exception:  # so the client answers whoever publishes on a channel that is just closing
                raise ConnectionError("the channel was closed before the broker confirmed") from error
            raise

    async def _get_channel(self, target: str) -> AbstractChannel:
        async with self._opening.take_turn():
            channel = self._channels.get(target)
            if channel is None or channel.is_closed:
                channel = self._channels[target] = await self._connection.open_channel(
                    publisher_confirms=True, on_return_raises=True
                )
            return channel


async def close_channel(channel: AbstractChannel) -> None:
    with suppress(*BROKER_ERRORS):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await channel.close()
