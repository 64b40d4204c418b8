"""Queues and exchanges on RabbitMQ: durable quorum queues, confirmed publishes, retry tiers as queues that one can look at.

Messages are acknowledged after what came of them is safe: committed, or confirmed in the dead-letter queue `<queue>.dlq`. `reader.py` says how a failed one waits.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelPreconditionFailed

from caravan.bus import LETTER_BYTES, Background, DeadLetter, Process, Subscription, Trouble, Undelivered
from caravan.bus.rabbit.letters import PREFETCH_MAX, Look, look, message, read_letter
from caravan.bus.rabbit.links import CONNECT_SECONDS, TROUBLE, Link, Publisher, close
from caravan.bus.rabbit.reader import QueueReader
from caravan.bus.reader import backoff
from caravan.bus.topology import Thing, retry_queue, topology
from caravan.bus.topology.rabbit import apply, missing
from caravan.clock import Clock, utc_now
from caravan.messages import Exchange, Outgoing, Queue, Topic
from caravan.telemetry import CONSUMERS, log

LOOKS_WITHOUT = 3
"""So many looks in a row without a consumer, and a reader that thinks it is one starts anew."""


class RabbitBus:
    def __init__(self, url: str, client: str, *, management: str = "", clock: Clock = utc_now) -> None:
        """`management`: URL of the management API, by default beside `url`."""
        self._url = url
        self._management = management
        self._clock = clock
        self._stopping = False
        self._publishing = Link(url, f"{client} publish")
        self._consuming = Link(url, f"{client} consume")
        self._publish = Publisher(self._publishing)
        self._readers: list[QueueReader] = []
        self._looking = asyncio.Lock()

    async def start(self) -> None:
        """Raises ConnectionError when RabbitMQ can't be reached."""
        await close(await self._publishing.channel())

    async def close(self) -> None:
        await asyncio.gather(self._publishing.close(), self._consuming.close())

    def background(self) -> list[tuple[str, Background]]:
        return []

    async def _open(self, **options: Any) -> AbstractChannel:
        return await self._consuming.channel(**options)

    async def declare(self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]) -> None:
        applied = await apply(self._management, self._url, topology(channels, subscriptions))
        applied.tell("rabbitmq")

    async def missing(self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]) -> list[Thing]:
        """What of these is not there; asked without any right to make it."""
        return await missing(self._url, topology(channels, subscriptions))

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        by_key: dict[tuple[str, str], list[Outgoing]] = {}
        for outgoing in messages:
            by_key.setdefault((outgoing.channel, outgoing.key), []).append(outgoing)
        found = await asyncio.gather(*(self._publish_in_order(of_key) for of_key in by_key.values()))
        troubles = [trouble for of_key in found for trouble in of_key]
        if troubles:
            raise Undelivered(troubles)

    async def _publish_in_order(self, of_key: Sequence[Outgoing]) -> list[Trouble]:
        """One after the other is confirmed: a queue that is full may refuse one and take the next."""
        for place, m in enumerate(of_key):
            try:
                await self._publish(m.channel, message(m.body, m.key, str(m.id)), exchange=m.kind == "exchange", route=m.route)
            except ChannelPreconditionFailed as error:  # too large for this broker
                behind = [Trouble(later, "an earlier message of its key could not be sent") for later in of_key[place + 1 :]]
                return [Trouble(m, str(error), for_good=True), *behind]
            except TROUBLE as error:
                reason = f"not taken by RabbitMQ ({error!r}); is the broker up, and does the queue exist and have room?"
                return [Trouble(later, reason) for later in of_key[place:]]
        return []

    async def consume(self, subscription: Subscription, process: Process) -> None:
        failures = 0
        while not self._stopping:
            reader: QueueReader | None = None
            try:
                reader = QueueReader(await self._open(), self._publish, self._clock, subscription, process)
                self._readers.append(reader)
                await reader.run()
                return
            except asyncio.CancelledError:
                raise
            except Exception as error:  # broker away: what was not acknowledged comes again
                failures += 1
                log.warning("consumer waits", subscription=subscription.name, error=repr(error))
                await asyncio.sleep(backoff(failures))
            finally:
                if reader is not None:
                    self._readers.remove(reader)
                    # Not cancelled before: the next consumer would start while this one's messages are not back in their places.
                    await close(reader.channel)

    async def stop(self) -> None:
        self._stopping = True
        for reader in self._readers:
            reader.stop()

    async def lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        """Messages ready in the queues of these subscriptions and their retry tiers. Raises ConnectionError when RabbitMQ can't be asked, as do the three below."""
        if not subscriptions:
            return {}
        channel = await self._open()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return {subscription.name: await self._waiting(channel, subscription) for subscription in subscriptions}
        except TROUBLE as error:
            raise ConnectionError(f"RabbitMQ can't be asked: {error!r}") from error
        finally:
            await close(channel)

    async def _waiting(self, channel: AbstractChannel, subscription: Subscription) -> int:
        tiers = [retry_queue(subscription.name, tier) for tier in range(1, subscription.retry.attempts)]
        queue, *others = [(await channel.declare_queue(name, passive=True)).declaration_result for name in (subscription.name, *tiers)]
        CONSUMERS.labels(subscription.service, subscription.channel).set(queue.consumer_count or 0)
        for reader in [reader for reader in self._readers if reader.subscription.name == subscription.name]:
            reader.seen_without = 0 if queue.consumer_count else reader.seen_without + 1
            if reader.seen_without >= LOOKS_WITHOUT:
                log.error("the broker knows no consumer; this one starts anew", queue=subscription.name)
                await close(reader.channel)
        return sum(result.message_count or 0 for result in (queue, *others))

    async def dead_letters(
        self, subscriptions: Sequence[Subscription], *, limit: int = 100, preview: int = LETTER_BYTES
    ) -> list[DeadLetter]:
        found: list[DeadLetter] = []
        for subscription in subscriptions:
            async with self._look(subscription.name, limit) as seen:
                found += [read_letter(subscription.name, received, preview) async for received in seen.messages()]
        return sorted(found, key=lambda letter: letter.died_at)[:limit]

    async def redrive(self, letters: Sequence[DeadLetter]) -> int:
        return await self._take_away(letters, again=True)

    async def discard(self, letters: Sequence[DeadLetter]) -> int:
        return await self._take_away(letters, again=False)

    async def _take_away(self, letters: Sequence[DeadLetter], *, again: bool) -> int:
        done = 0
        for subscription in dict.fromkeys(letter.subscription for letter in letters):
            wanted = {letter.id for letter in letters if letter.subscription == subscription}
            async with self._look(subscription, PREFETCH_MAX) as seen:
                async for received in seen.messages():
                    letter = read_letter(subscription, received)
                    if letter.id not in wanted or (again and not letter.whole):
                        continue
                    if again:
                        await self._publish(subscription, message(received.body, letter.key, received.message_id or ""))
                    await seen.take_away(received)
                    done += 1
                    wanted.discard(letter.id)
                    if not wanted:
                        break
        return done

    @asynccontextmanager
    async def _look(self, subscription: str, limit: int) -> AsyncIterator[Look]:
        """One look at a time, because two would each see a part."""
        try:
            async with self._looking, look(self._consuming, subscription, limit) as seen:
                yield seen
        except TROUBLE as error:
            raise ConnectionError(f"the dead letters of {subscription} can't be read: {error!r}") from error
