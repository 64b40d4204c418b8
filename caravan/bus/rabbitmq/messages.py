"""Messages on RabbitMQ as headers and bodies, and browsing a dead-letter queue.

Browsing takes the messages without acknowledging them, and returns them to their positions by closing its channel. The
broker counts it as a delivery each time, which is why these queues need a delivery limit that is never reached: with
RabbitMQ's default of 20, browsing for the 21st time would delete every dead letter.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue, HeadersType

from caravan.bus import DEAD_LETTER_MAX_BYTES, DeadLetter, IncomingMessage, cut_key
from caravan.bus.rabbitmq.connections import ACKNOWLEDGE_SECONDS, CONNECT_SECONDS, RabbitConnection, close_channel
from caravan.bus.topology import get_dead_letter_queue
from caravan.clock import EPOCH, new_id
from caravan.telemetry import log

_SCAN_SECONDS = 8.0
_QUIET_SECONDS = 1.0
PREFETCH_MAX = 65_535


def build_message(body: bytes, key: str, identifier: str, headers: HeadersType | None = None) -> aio_pika.Message:
    return aio_pika.Message(
        body,
        message_id=identifier,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        headers={"x-key": key, **(headers or {})},
    )


def read_header(received: AbstractIncomingMessage, name: str, default: Any) -> Any:
    value = (received.headers or {}).get(name, default)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def read_number(received: AbstractIncomingMessage, name: str, default: int) -> int:
    """A header that a foreign producer may have filled with anything."""
    value = read_header(received, name, default)
    return value if isinstance(value, int) and value > 0 else default


def build_dead_letter(channel: str, incoming: IncomingMessage, reason: str, now: datetime) -> aio_pika.Message:
    headers: HeadersType = {
        "x-letter": str(new_id()),
        # An exception's text may hold what UTF-8 has no bytes for; it must not keep its message from being given up.
        "x-reason": reason[:2000].encode(errors="replace").decode(),
        "x-channel": channel,
        "x-attempt": incoming.attempt,
        "x-died-at": now.isoformat(),
        "x-size": len(incoming.body),
    }
    key = cut_key(incoming.key)
    if key != incoming.key:
        headers["x-whole-key"] = False
    return build_message(incoming.body[:DEAD_LETTER_MAX_BYTES], key, incoming.handle.message_id or "", headers)


def parse_dead_letter(
    subscription: str, received: AbstractIncomingMessage, preview: int = DEAD_LETTER_MAX_BYTES
) -> DeadLetter:
    dead_lettered_at, size = (
        read_header(received, "x-died-at", None),
        read_number(received, "x-size", len(received.body)),
    )
    return DeadLetter(
        id=str(read_header(received, "x-letter", "")) or _compute_fingerprint(received),
        subscription=subscription,
        channel=str(read_header(received, "x-channel", "")),
        key=str(read_header(received, "x-key", "")),
        body=received.body[:preview],
        reason=str(read_header(received, "x-reason", "")) or "dead-lettered by the broker",
        attempt=read_number(received, "x-attempt", 1),
        dead_lettered_at=_parse_time(dead_lettered_at),
        size=size,
        redrivable=size <= len(received.body) and read_header(received, "x-whole-key", True) is not False,
    )


def _compute_fingerprint(received: AbstractIncomingMessage) -> str:
    """The id of a dead letter that the broker itself put there: the same for the same message."""
    return hashlib.sha256(f"{received.message_id}\n".encode() + received.body).hexdigest()[:32]


def _parse_time(text: Any) -> datetime:
    """With a zone, whoever wrote it: dead letters are sorted by it."""
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return EPOCH.astimezone(UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


class QueueBrowser:
    """The first messages of a dead-letter queue, oldest first: `async for received in browser.read_messages()`. What is
    not removed is back in its position afterwards.
    """

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue, limit: int) -> None:
        self._channel = channel
        self._queue = queue
        self._message_count = min(limit, queue.declaration_result.message_count or 0)
        self._deliveries: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._removed_count = 0

    async def read_messages(self) -> AsyncIterator[AbstractIncomingMessage]:
        if not self._message_count:
            return
        async with asyncio.timeout(CONNECT_SECONDS):  # a queue without a leader answers nobody
            await self._channel.set_qos(prefetch_count=min(self._message_count, PREFETCH_MAX))
            await self._queue.consume(self._deliveries.put)
        deadline = asyncio.get_running_loop().time() + _SCAN_SECONDS
        for _ in range(self._message_count):
            try:
                async with asyncio.timeout(_QUIET_SECONDS):
                    received = await self._deliveries.get()
            except TimeoutError:
                return  # somebody else looks at the rest just now
            yield received
            if asyncio.get_running_loop().time() > deadline:
                log.warning("dead letters not read to the end", queue=self._queue.name, seconds=_SCAN_SECONDS)
                return

    async def remove(self, received: AbstractIncomingMessage) -> None:
        """Raises TimeoutError when the connection is gone and the client's buffer is full: nobody empties it."""
        async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
            await received.ack()
        self._removed_count += 1

    @property
    def remaining_count(self) -> int:
        return self._message_count - self._removed_count


@asynccontextmanager
async def browse(link: RabbitConnection, subscription: str, limit: int) -> AsyncIterator[QueueBrowser]:
    name = get_dead_letter_queue(subscription)
    channel = await link.open_channel()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            queue = await channel.declare_queue(name, passive=True)
        browser = QueueBrowser(channel, queue, limit)
        yield browser
    finally:
        await close_channel(channel)
    channel = await link.open_channel()
    try:
        await _wait_until_requeued(channel, name, browser.remaining_count)
    finally:
        await close_channel(channel)


async def _wait_until_requeued(channel: AbstractChannel, name: str, count: int) -> None:
    """The broker gives messages back a little after the channel is closed, and the next look must not find them
    missing.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_QUIET_SECONDS):
            while ((await channel.declare_queue(name, passive=True)).declaration_result.message_count or 0) < count:
                await asyncio.sleep(0.01)
