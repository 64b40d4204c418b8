"""Messages on RabbitMQ as headers and bodies, and looks into a dead-letter queue.

A look takes the messages without acknowledging them, and gives them back in their places by closing its channel. Each look counts as a delivery to the broker, which
is why these queues need a delivery limit that is never reached: with RabbitMQ's default of 20, the 21st look would delete every letter.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue, HeadersType

from caravan.bus import LETTER_BYTES, DeadLetter, Incoming
from caravan.bus.rabbit.links import CONNECT_SECONDS, Link, close
from caravan.bus.topology import dead_letter_queue
from caravan.clock import EPOCH, new_id
from caravan.telemetry import log

SCAN_SECONDS = 8.0
QUIET_SECONDS = 1.0
PREFETCH_MAX = 65_535


def message(body: bytes, key: str, identifier: str, headers: HeadersType | None = None) -> aio_pika.Message:
    return aio_pika.Message(
        body,
        message_id=identifier,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        headers={"x-key": key, **(headers or {})},
    )


def header(received: AbstractIncomingMessage, name: str, default: Any) -> Any:
    value = (received.headers or {}).get(name, default)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def number(received: AbstractIncomingMessage, name: str, default: int) -> int:
    """A header that a foreign producer may have filled with anything."""
    value = header(received, name, default)
    return value if isinstance(value, int) and value > 0 else default


def dead_letter(channel: str, incoming: Incoming, reason: str, now: datetime) -> aio_pika.Message:
    headers: HeadersType = {
        "x-letter": str(new_id()),
        "x-reason": reason[:2000],
        "x-channel": channel,
        "x-attempt": incoming.attempt,
        "x-died-at": now.isoformat(),
        "x-size": len(incoming.body),
    }
    return message(incoming.body[:LETTER_BYTES], incoming.key, incoming.handle.message_id or "", headers)


def read_letter(subscription: str, received: AbstractIncomingMessage, preview: int = LETTER_BYTES) -> DeadLetter:
    died, size = header(received, "x-died-at", None), number(received, "x-size", len(received.body))
    return DeadLetter(
        id=str(header(received, "x-letter", "")) or _fingerprint(received),
        subscription=subscription,
        channel=str(header(received, "x-channel", "")),
        key=str(header(received, "x-key", "")),
        body=received.body[:preview],
        reason=str(header(received, "x-reason", "")) or "dead-lettered by the broker",
        attempt=number(received, "x-attempt", 1),
        died_at=_moment(died),
        size=size,
        whole=size <= len(received.body),
    )


def _fingerprint(received: AbstractIncomingMessage) -> str:
    """Of a letter that the broker itself put there: the same again for the same message."""
    return hashlib.sha256(f"{received.message_id}\n".encode() + received.body).hexdigest()[:32]


def _moment(text: Any) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return EPOCH.astimezone(UTC)


class Look:
    """The first messages of a dead-letter queue, oldest first: `async for received in look.messages()`. What is not taken away is back in its place afterwards."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue, limit: int) -> None:
        self._channel = channel
        self._queue = queue
        self._count = min(limit, queue.declaration_result.message_count or 0)
        self._arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._taken = 0

    async def messages(self) -> AsyncIterator[AbstractIncomingMessage]:
        if not self._count:
            return
        await self._channel.set_qos(prefetch_count=min(self._count, PREFETCH_MAX))
        await self._queue.consume(self._arrived.put)
        until = asyncio.get_running_loop().time() + SCAN_SECONDS
        for _ in range(self._count):
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    received = await self._arrived.get()
            except TimeoutError:
                return  # somebody else looks at the rest just now
            yield received
            if asyncio.get_running_loop().time() > until:
                log.warning("dead letters not read to the end", queue=self._queue.name, seconds=SCAN_SECONDS)
                return

    async def take_away(self, received: AbstractIncomingMessage) -> None:
        await received.ack()
        self._taken += 1

    @property
    def left(self) -> int:
        return self._count - self._taken


@asynccontextmanager
async def look(link: Link, subscription: str, limit: int) -> AsyncIterator[Look]:
    name = dead_letter_queue(subscription)
    channel = await link.channel()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            queue = await channel.declare_queue(name, passive=True)
        made = Look(channel, queue, limit)
        yield made
    finally:
        await close(channel)
    channel = await link.channel()
    try:
        await _until_back(channel, name, made.left)
    finally:
        await close(channel)


async def _until_back(channel: AbstractChannel, name: str, count: int) -> None:
    """The broker gives messages back a little after the channel is closed, and the next look must not find them missing."""
    with suppress(TimeoutError):
        async with asyncio.timeout(QUIET_SECONDS):
            while ((await channel.declare_queue(name, passive=True)).declaration_result.message_count or 0) < count:
                await asyncio.sleep(0.01)
