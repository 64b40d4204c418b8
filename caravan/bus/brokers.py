"""Kafka for topics and RabbitMQ for queues and exchanges, as one bus."""

import asyncio
from collections.abc import Sequence

from caravan.bus import LETTER_BYTES, Background, DeadLetter, Process, Subscription, Trouble, Undelivered
from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbit import RabbitBus
from caravan.bus.topology import NotDeclared
from caravan.messages import Exchange, Outgoing, Queue, Topic


class Brokers:
    """`owner`: whether this process makes the topics and queues that it needs; else `declare` raises NotDeclared until somebody else has."""

    def __init__(self, kafka: KafkaBus, rabbit: RabbitBus, *, owner: bool = True) -> None:
        self.kafka = kafka
        self.rabbit = rabbit
        self._owner = owner

    def _carrier(self, subscription: Subscription) -> KafkaBus | RabbitBus:
        return self.kafka if isinstance(subscription.source, Topic) else self.rabbit

    async def start(self) -> None:
        await self.kafka.start()
        await self.rabbit.start()

    async def close(self) -> None:
        await asyncio.gather(self.kafka.close(), self.rabbit.close())

    def background(self) -> list[tuple[str, Background]]:
        return []

    async def declare(self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]) -> None:
        if self._owner:
            await self.kafka.declare(channels, subscriptions)
            await self.rabbit.declare(channels, subscriptions)
        elif absent := await self.kafka.missing(channels, subscriptions) + await self.rabbit.missing(channels, subscriptions):
            raise NotDeclared(absent)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        logged = [message for message in messages if message.kind == "topic"]
        queued = [message for message in messages if message.kind != "topic"]
        found = await asyncio.gather(_troubles(self.kafka, logged), _troubles(self.rabbit, queued))
        if troubles := [trouble for of_one in found for trouble in of_one]:
            raise Undelivered(troubles)

    async def consume(self, subscription: Subscription, process: Process) -> None:
        await self._carrier(subscription).consume(subscription, process)

    async def stop(self) -> None:
        await asyncio.gather(self.kafka.stop(), self.rabbit.stop())

    async def lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        read = [subscription for subscription in subscriptions if isinstance(subscription.source, Topic)]
        taken = [subscription for subscription in subscriptions if not isinstance(subscription.source, Topic)]
        logs, queues = await asyncio.gather(self.kafka.lag(read), self.rabbit.lag(taken))
        return logs | queues

    async def dead_letters(
        self, subscriptions: Sequence[Subscription], *, limit: int = 100, preview: int = LETTER_BYTES
    ) -> list[DeadLetter]:
        found = await asyncio.gather(
            *(self._carrier(subscription).dead_letters([subscription], limit=limit, preview=preview) for subscription in subscriptions)
        )
        return sorted((letter for letters in found for letter in letters), key=lambda letter: letter.died_at)[:limit]

    async def redrive(self, letters: Sequence[DeadLetter]) -> int:
        logged, queued = _by_transport(letters)
        return await self.kafka.redrive(logged) + await self.rabbit.redrive(queued)

    async def discard(self, letters: Sequence[DeadLetter]) -> int:
        logged, queued = _by_transport(letters)
        return await self.kafka.discard(logged) + await self.rabbit.discard(queued)


def _by_transport(letters: Sequence[DeadLetter]) -> tuple[list[DeadLetter], list[DeadLetter]]:
    """A letter's id tells its transport: on Kafka it is a place (topic/partition/offset@time), on RabbitMQ an id without a slash."""
    return [letter for letter in letters if "/" in letter.id], [letter for letter in letters if "/" not in letter.id]


async def _troubles(bus: KafkaBus | RabbitBus, messages: Sequence[Outgoing]) -> Sequence[Trouble]:
    """One broker's trouble is not the other's: both are heard out."""
    try:
        await bus.publish(messages)
    except Undelivered as error:
        return error.troubles
    return ()
