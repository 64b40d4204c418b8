"""Queues and exchanges on RabbitMQ: durable quorum queues, confirmed publishes, retry tiers as queues that one can look at.

A failed message goes to `<queue>.retry.<tier>`, whose time-to-live brings it back; later messages of its key follow it there, so that none overtakes it. What is
given up goes to `<queue>.dlq`. Messages are acknowledged after what came of them is safe: committed, or confirmed in the other queue.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue, AbstractRobustChannel, AbstractRobustConnection, HeadersType
from aio_pika.exceptions import AMQPError

from caravan.bus import DeadLetter, Incoming, Outcome, Process, Result, Subscription
from caravan.clock import EPOCH, Clock, utc_now
from caravan.messages import Binding, Exchange, Outgoing, Queue, Topic
from caravan.telemetry import DEAD_LETTERS, log

PUBLISH_SECONDS = 30.0
POLL_SECONDS = 0.5
BACKOFF_SECONDS = (0.05, 0.2, 1.0, 3.0)
QUORUM = {"x-queue-type": "quorum"}


def retry_queue(queue: str, tier: int) -> str:
    return f"{queue}.retry.{tier}"


def dead_letter_queue(queue: str) -> str:
    return f"{queue}.dlq"


class RabbitBus:
    def __init__(self, url: str, client: str, *, clock: Clock = utc_now) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self._stopping = False
        self._connection: AbstractRobustConnection | None = None
        self._channel: AbstractRobustChannel | None = None

    async def start(self) -> None:
        self._connection = await aio_pika.connect_robust(self._url, client_properties={"connection_name": self._client}, timeout=10)
        # Confirms, and an unroutable message is an error instead of a silent return.
        self._channel = await self._open(publisher_confirms=True, on_return_raises=True)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    def background(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        return []

    async def _open(self, **options: Any) -> AbstractRobustChannel:
        if self._connection is None:
            raise RuntimeError("start the bus before it is used")
        return await self._connection.channel(**options)

    def _publisher(self) -> AbstractRobustChannel:
        if self._channel is None:
            raise RuntimeError("start the bus before it is used")
        return self._channel

    async def declare(self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]) -> None:
        channel = await self._open()
        try:
            for declared in channels:
                if isinstance(declared, Exchange):
                    await channel.declare_exchange(declared.name, aio_pika.ExchangeType.TOPIC, durable=True)
                elif isinstance(declared, Queue):
                    await self._declare_queue(channel, declared.name, declared.retry.delays)
            for subscription in subscriptions:
                if isinstance(subscription.source, Binding):
                    queue = await self._declare_queue(channel, subscription.name, subscription.retry.delays)
                    exchange = await channel.declare_exchange(subscription.channel, aio_pika.ExchangeType.TOPIC, durable=True)
                    for pattern in subscription.source.patterns:
                        await queue.bind(exchange, pattern)
        finally:
            await channel.close()

    async def _declare_queue(self, channel: AbstractRobustChannel, name: str, delays: Sequence[float]) -> AbstractQueue:
        """A work queue with its retry tiers and its dead-letter queue. One active consumer at a time keeps the order of keys across replicas."""
        await channel.declare_queue(dead_letter_queue(name), durable=True, arguments=dict(QUORUM))
        for tier, delay in enumerate(delays, 1):
            back = {**QUORUM, "x-message-ttl": int(delay * 1000), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": name}
            safe = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
            await channel.declare_queue(retry_queue(name, tier), durable=True, arguments={**back, **safe})
        return await channel.declare_queue(name, durable=True, arguments={**QUORUM, "x-single-active-consumer": True})

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        channel = self._publisher()
        async with asyncio.timeout(PUBLISH_SECONDS):
            exchanges = {m.channel: await channel.get_exchange(m.channel, ensure=False) for m in messages if m.kind == "exchange"}
            await asyncio.gather(
                *(
                    exchanges.get(m.channel, channel.default_exchange).publish(
                        _message(m.body, m.key, str(m.id)), m.route if m.kind == "exchange" else m.channel, mandatory=m.kind == "queue"
                    )
                    for m in messages
                )
            )

    async def consume(self, subscription: Subscription, process: Process) -> None:
        failures = 0
        while not self._stopping:
            channel: AbstractRobustChannel | None = None
            try:
                channel = await self._open()
                await channel.set_qos(prefetch_count=subscription.batch * 2)
                await _Reader(self, channel, subscription, process).run()
                return
            except asyncio.CancelledError:
                raise
            except Exception as error:  # broker away: what was not acknowledged comes again
                failures += 1
                log.warning("consumer waits", subscription=subscription.name, error=repr(error))
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1])
            finally:
                if channel is not None:
                    with suppress(AMQPError, OSError, RuntimeError, TimeoutError):
                        await asyncio.wait_for(channel.close(), 5)

    @property
    def stopping(self) -> bool:
        return self._stopping

    async def stop(self) -> None:
        self._stopping = True

    async def lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        """Messages ready in the queues of these subscriptions and their retry tiers."""
        channel = await self._open()
        try:
            waiting: dict[str, int] = {}
            for subscription in subscriptions:
                names = [subscription.name, *(retry_queue(subscription.name, tier) for tier in range(1, subscription.retry.attempts))]
                declared = [await channel.declare_queue(name, passive=True) for name in names]
                waiting[subscription.name] = sum(queue.declaration_result.message_count or 0 for queue in declared)
            return waiting
        finally:
            await channel.close()

    async def dead_letters(self, subscriptions: Sequence[Subscription], *, limit: int = 100) -> list[DeadLetter]:
        found: list[DeadLetter] = []
        for subscription in subscriptions:
            channel = await self._open()
            try:
                queue = await channel.declare_queue(dead_letter_queue(subscription.name), passive=True)
                while len(found) < limit and (message := await queue.get(no_ack=False, fail=False, timeout=5)) is not None:
                    found.append(_letter(subscription.name, message))
            finally:
                await channel.close()  # unacknowledged, so they are back in their order
        return found

    async def redrive(self, letters: Sequence[DeadLetter]) -> int:
        done = 0
        for subscription in dict.fromkeys(letter.subscription for letter in letters):
            wanted = {letter.id for letter in letters if letter.subscription == subscription}
            channel = await self._open()
            try:
                queue = await channel.declare_queue(dead_letter_queue(subscription), passive=True)
                while wanted and (message := await queue.get(no_ack=False, fail=False, timeout=5)) is not None:
                    letter = _letter(subscription, message)
                    if letter.id in wanted:
                        wanted.discard(letter.id)
                        await self._publisher().default_exchange.publish(
                            _message(letter.body, letter.key, message.message_id or ""), subscription
                        )
                        await message.ack()
                        done += 1
            finally:
                await channel.close()
        return done

    async def move(self, incoming: Incoming, queue: str, headers: HeadersType) -> None:
        """Put a message into another queue, and acknowledge it once that is confirmed."""
        message: AbstractIncomingMessage = incoming.handle
        async with asyncio.timeout(PUBLISH_SECONDS):
            await self._publisher().default_exchange.publish(
                _message(incoming.body, incoming.key, message.message_id or "", headers), queue
            )
        await message.ack()

    async def bury(self, subscription: Subscription, incoming: Incoming, reason: str) -> None:
        DEAD_LETTERS.labels(subscription.channel, subscription.service).inc()
        log.error("dead letter", subscription=subscription.name, key=incoming.key, attempt=incoming.attempt, reason=reason)
        headers: HeadersType = {
            "x-reason": reason[:2000],
            "x-channel": subscription.channel,
            "x-attempt": incoming.attempt,
            "x-died-at": self._clock().isoformat(),
        }
        await self.move(incoming, dead_letter_queue(subscription.name), headers)


def _message(body: bytes, key: str, identifier: str, headers: HeadersType | None = None) -> aio_pika.Message:
    return aio_pika.Message(
        body,
        message_id=identifier,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        headers={"x-key": key, **(headers or {})},
    )


def _header(message: AbstractIncomingMessage, name: str, default: Any) -> Any:
    value = (message.headers or {}).get(name, default)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _letter(subscription: str, message: AbstractIncomingMessage) -> DeadLetter:
    died = _header(message, "x-died-at", None)
    return DeadLetter(
        id=message.message_id or "",
        subscription=subscription,
        channel=str(_header(message, "x-channel", "")),
        key=str(_header(message, "x-key", "")),
        body=message.body,
        reason=str(_header(message, "x-reason", "")),
        attempt=int(_header(message, "x-attempt", 1)),
        died_at=datetime.fromisoformat(died) if died else EPOCH.astimezone(UTC),
    )


@dataclass(slots=True)
class _Away:
    """The messages of a key that are in the retry tiers, in their order; `tier` is where the first of them is."""

    messages: deque[str] = field(default_factory=deque)
    tier: int = 1


class _Reader:
    """Takes deliveries in batches. A message that comes back runs only when it is the first of its key; `_away` knows the order."""

    def __init__(self, bus: RabbitBus, channel: AbstractRobustChannel, subscription: Subscription, process: Process) -> None:
        self._bus = bus
        self._channel = channel
        self._subscription = subscription
        self._process = process
        self._arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._away: dict[str, _Away] = {}

    async def run(self) -> None:
        queue = await self._channel.get_queue(self._subscription.name, ensure=False)
        tag = await queue.consume(self._arrived.put)
        lost = asyncio.ensure_future(self._channel.closed())
        try:
            while not self._bus.stopping:
                batch = await self._batch()
                if batch:
                    await self._handle(batch)
                if lost.done():
                    raise ConnectionError("the channel was closed")
        finally:
            lost.cancel()
            with suppress(AMQPError, OSError, RuntimeError, TimeoutError):
                await asyncio.wait_for(queue.cancel(tag), 5)

    async def _batch(self) -> list[Incoming]:
        try:
            first = await asyncio.wait_for(self._arrived.get(), POLL_SECONDS)
        except TimeoutError:
            return []
        messages = [first]
        while len(messages) < self._subscription.batch and not self._arrived.empty():
            messages.append(self._arrived.get_nowait())
        taken = []
        for message in messages:
            incoming = Incoming(str(_header(message, "x-key", "")), message.body, int(_header(message, "x-attempt", 1)), message)
            if await self._follows(incoming):
                continue
            taken.append(incoming)
        return taken

    async def _follows(self, incoming: Incoming) -> bool:
        """Whether a message must wait, because one of its key before it has not come back yet: then it goes (again) to where that one is."""
        away = self._away.get(incoming.key)
        if not away or not away.messages:
            return False
        identifier = incoming.handle.message_id or ""
        if away.messages[0] == identifier:
            away.messages.popleft()
            return False
        if identifier not in away.messages:
            away.messages.append(identifier)
        await self._send_away(incoming, away.tier)
        return True

    async def _send_away(self, incoming: Incoming, tier: int) -> None:
        await self._bus.move(incoming, retry_queue(self._subscription.name, tier), {"x-attempt": incoming.attempt})

    async def _handle(self, batch: list[Incoming]) -> None:
        failures = 0
        while True:
            try:
                outcomes = await self._process(batch)
                break
            except asyncio.CancelledError:
                raise
            except Exception as error:  # nothing of the batch counts: the same again
                failures += 1
                log.warning("consumer waits", subscription=self._subscription.name, error=repr(error))
                if self._bus.stopping:
                    return
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1])
        left: dict[str, list[str]] = {}
        for incoming, outcome in zip(batch, outcomes, strict=True):
            if await self._settle(incoming, outcome):
                left.setdefault(incoming.key, []).append(incoming.handle.message_id or "")
        for key, identifiers in left.items():
            self._away[key].messages.extendleft(reversed(identifiers))  # before those of the key that were away already
        for key in {incoming.key for incoming in batch}:
            if key in self._away and not self._away[key].messages:
                del self._away[key]

    async def _settle(self, incoming: Incoming, outcome: Outcome) -> bool:
        """Do what an outcome says; whether the message went to a retry tier."""
        retry = self._subscription.retry
        used_up = outcome.result is Result.RETRY and incoming.attempt >= retry.attempts
        if outcome.result is Result.DONE:
            await incoming.handle.ack()
            return False
        if outcome.result is Result.DEAD or used_up:
            await self._bus.bury(self._subscription, incoming, outcome.reason)
            return False
        away = self._away.setdefault(incoming.key, _Away())
        if outcome.result is Result.RETRY:
            away.tier = incoming.attempt
            incoming = replace(incoming, attempt=incoming.attempt + 1)
        await self._send_away(incoming, away.tier)
        return True
