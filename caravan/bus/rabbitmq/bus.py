"""The bus of queues and exchanges on RabbitMQ: what a process publishes to, consumes from, and asks for lag and dead
letters.

Each subscription is read by a `QueueReader` of its own (`reader.py`); `caravan/runtime/backends.py` makes the bus.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aio_pika.abc import AbstractChannel, HeadersType
from aio_pika.exceptions import ChannelPreconditionFailed

from caravan.backoff import compute_backoff
from caravan.bus import (
    DEAD_LETTER_MAX_BYTES,
    BackgroundTask,
    BatchHandler,
    DeadLetter,
    PublishError,
    PublishFailure,
    Subscription,
)
from caravan.bus.observation import PublishSpans
from caravan.bus.rabbitmq.connections import BROKER_ERRORS, CONNECT_SECONDS, Publisher, RabbitConnection, close_channel
from caravan.bus.rabbitmq.messages import PREFETCH_MAX, QueueBrowser, browse, build_message, parse_dead_letter
from caravan.bus.rabbitmq.reader import QueueReader
from caravan.bus.topology import ObjectRef, build_topology, get_dead_letter_queue, get_retry_queue
from caravan.bus.topology.rabbitmq import apply_topology, find_missing
from caravan.clock import Clock, utc_now
from caravan.concurrency import raise_if_cancelled
from caravan.messages import Exchange, OutgoingMessage, Queue, Topic
from caravan.telemetry import log
from caravan.telemetry.metrics import QUEUE_CONSUMERS

_CHECKS_WITHOUT_CONSUMER_MAX = 3
"""So many looks in a row without a consumer, and a reader that thinks it is one starts anew."""


class RabbitBus:
    def __init__(self, url: str, client: str, *, management: str = "", clock: Clock = utc_now) -> None:
        """`management`: URL of the management API, by default beside `url`."""
        self._url = url
        self._management = management
        self._clock = clock
        self._is_stopping = False
        self.reachable: dict[str, bool] = {}
        self._publish_connection = RabbitConnection(url, f"{client} publish")
        self._consume_connection = RabbitConnection(url, f"{client} consume")
        self._publisher = Publisher(self._publish_connection)
        self._readers: list[QueueReader] = []
        self._browse_lock = asyncio.Lock()

    async def start(self) -> None:
        """Raises ConnectionError when RabbitMQ can't be reached."""
        await close_channel(await self._publish_connection.open_channel())

    async def close(self) -> None:
        await asyncio.gather(self._publish_connection.stop(), self._consume_connection.stop())

    def list_background_tasks(self) -> list[tuple[str, BackgroundTask]]:
        return []

    async def _open_channel(self, **options: Any) -> AbstractChannel:
        return await self._consume_connection.open_channel(**options)

    async def declare_channels(
        self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]
    ) -> None:
        result = await apply_topology(self._management, self._url, build_topology(channels, subscriptions))
        result.log("rabbitmq")

    async def find_missing(
        self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]
    ) -> list[ObjectRef]:
        """What of these is not there; asked without any right to make it."""
        return await find_missing(self._url, build_topology(channels, subscriptions))

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        by_key: dict[tuple[str, str], list[OutgoingMessage]] = {}
        for outgoing in messages:
            by_key.setdefault((outgoing.channel, outgoing.key), []).append(outgoing)
        with PublishSpans(messages, "rabbitmq") as spans:
            failures_by_key = await asyncio.gather(*(self._publish_in_order(of_key) for of_key in by_key.values()))
            failures = [failure for of_key in failures_by_key for failure in of_key]
            spans.record_failures(failures)
        if failures:
            raise PublishError(failures)

    async def _publish_in_order(self, of_key: Sequence[OutgoingMessage]) -> list[PublishFailure]:
        """One after the other is confirmed: a queue that is full may refuse one and take the next."""
        for index, m in enumerate(of_key):
            try:
                await self._publisher(
                    m.channel,
                    build_message(m.body, m.key, str(m.id), _build_trace_headers(m)),
                    exchange=m.channel_type == "exchange",
                    routing_key=m.routing_key,
                )
            except ChannelPreconditionFailed as error:  # too large for this broker
                later_failures = [
                    PublishFailure(later, "an earlier message of its key could not be sent")
                    for later in of_key[index + 1 :]
                ]
                return [PublishFailure(m, str(error), permanent=True), *later_failures]
            except BROKER_ERRORS as error:
                reason = f"not taken by RabbitMQ ({error!r}); is the broker up, and does the queue exist and have room?"
                return [PublishFailure(later, reason) for later in of_key[index:]]
        return []

    async def consume(self, subscription: Subscription, handler: BatchHandler) -> None:
        failures = 0
        while not self._is_stopping:
            reader: QueueReader | None = None
            try:
                reader = QueueReader(
                    self._consume_connection,
                    await self._open_channel(),
                    self._publisher,
                    self._clock,
                    subscription,
                    handler,
                )
                self._add_reader(reader)
                await reader.run()
                return
            except asyncio.CancelledError:
                raise
            except Exception as error:  # broker unavailable: what was not acknowledged comes again
                raise_if_cancelled(error)
                failures += 1
                log.warning("consumer is retrying", subscription=subscription.name, error=repr(error))
                await asyncio.sleep(compute_backoff(failures))
            finally:
                if reader is not None:
                    self._readers.remove(reader)
                    await reader.close()

    def _add_reader(self, reader: QueueReader) -> None:
        self._readers.append(reader)
        if self._is_stopping:  # `stop` came while its channel was opened, and did not know it
            reader.stop()

    async def stop(self) -> None:
        self._is_stopping = True
        for reader in self._readers:
            reader.stop()

    async def measure_lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        """Messages ready in the queues of these subscriptions and their retry tiers. Raises ConnectionError when
        RabbitMQ can't be asked, as do the three below.
        """
        if not subscriptions:
            return {}
        self.reachable["rabbitmq"] = False
        channel = await self._open_channel()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                lag = {
                    subscription.name: await self._count_waiting(channel, subscription)
                    for subscription in subscriptions
                }
            self.reachable["rabbitmq"] = True
            return lag
        except BROKER_ERRORS as error:
            raise ConnectionError(f"RabbitMQ can't be asked: {error!r}") from error
        finally:
            await close_channel(channel)

    async def _count_waiting(self, channel: AbstractChannel, subscription: Subscription) -> int:
        tiers = [get_retry_queue(subscription.name, tier) for tier in range(1, subscription.retry.max_attempts)]
        queue_result, *tier_results = [
            (await channel.declare_queue(name, passive=True)).declaration_result for name in (subscription.name, *tiers)
        ]
        QUEUE_CONSUMERS.labels(subscription.service, subscription.channel).set(queue_result.consumer_count or 0)
        for reader in [reader for reader in self._readers if reader.subscription.name == subscription.name]:
            reader.checks_without_consumer = 0 if queue_result.consumer_count else reader.checks_without_consumer + 1
            if reader.checks_without_consumer >= _CHECKS_WITHOUT_CONSUMER_MAX:
                log.error("the broker knows no consumer; this one starts anew", queue=subscription.name)
                await close_channel(reader.channel)
        return sum(result.message_count or 0 for result in (queue_result, *tier_results))

    async def count_dead_letters(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        if not subscriptions:
            return {}
        channel = await self._open_channel()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return {
                    subscription.name: await _count_ready(channel, get_dead_letter_queue(subscription.name))
                    for subscription in subscriptions
                }
        except BROKER_ERRORS as error:
            raise ConnectionError(f"RabbitMQ can't be asked: {error!r}") from error
        finally:
            await close_channel(channel)

    async def list_dead_letters(
        self,
        subscriptions: Sequence[Subscription],
        *,
        limit: int = 100,
        preview: int = DEAD_LETTER_MAX_BYTES,
        key: str | None = None,
    ) -> list[DeadLetter]:
        dead_letters: list[DeadLetter] = []
        for subscription in subscriptions:
            async with self._browse_dead_letters(subscription.name, PREFETCH_MAX if key else limit) as browser:
                dead_letters += [
                    dead_letter
                    async for received in browser.read_messages()
                    if (dead_letter := parse_dead_letter(subscription.name, received, preview)).key == key
                    or key is None
                ]
        return sorted(dead_letters, key=lambda dead_letter: dead_letter.dead_lettered_at)[:limit]

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        return await self._remove_dead_letters(dead_letters, republish=True)

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int:
        return await self._remove_dead_letters(dead_letters, republish=False)

    async def _remove_dead_letters(self, dead_letters: Sequence[DeadLetter], *, republish: bool) -> int:
        count = 0
        for subscription in dict.fromkeys(dead_letter.subscription for dead_letter in dead_letters):
            remaining_ids = {dead_letter.id for dead_letter in dead_letters if dead_letter.subscription == subscription}
            async with self._browse_dead_letters(subscription, PREFETCH_MAX) as browser:
                async for received in browser.read_messages():
                    dead_letter = parse_dead_letter(subscription, received)
                    if dead_letter.id not in remaining_ids or (republish and not dead_letter.redrivable):
                        continue
                    if republish:
                        await self._publisher(
                            subscription, build_message(received.body, dead_letter.key, received.message_id or "")
                        )
                    await browser.remove(received)
                    count += 1
                    remaining_ids.discard(dead_letter.id)
                    if not remaining_ids:
                        break
        return count

    @asynccontextmanager
    async def _browse_dead_letters(self, subscription: str, limit: int) -> AsyncIterator[QueueBrowser]:
        """One look at a time, because two would each see a part."""
        try:
            async with self._browse_lock, browse(self._consume_connection, subscription, limit) as browser:
                yield browser
        except BROKER_ERRORS as error:
            raise ConnectionError(f"the dead letters of {subscription} can't be read: {error!r}") from error


def _build_trace_headers(message: OutgoingMessage) -> HeadersType | None:
    traceparent = message.traceparent
    return {"traceparent": traceparent} if traceparent else None


async def _count_ready(channel: AbstractChannel, queue: str) -> int:
    return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0
