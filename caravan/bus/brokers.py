"""Kafka for topics and RabbitMQ for queues and exchanges, as one bus."""

import asyncio
from collections.abc import Mapping, Sequence

from caravan.bus import (
    DEAD_LETTER_MAX_BYTES,
    BackgroundTask,
    BatchHandler,
    DeadLetter,
    PublishError,
    PublishFailure,
    Subscription,
)
from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbitmq import RabbitBus
from caravan.bus.topology import NotDeclared
from caravan.messages import Exchange, OutgoingMessage, Queue, Topic


class BrokerBus:
    """`is_owner`: whether this process creates the topics and queues that it needs; else `declare_channels` raises
    NotDeclared until somebody else has.
    """

    def __init__(self, kafka: KafkaBus, rabbit: RabbitBus, *, is_owner: bool = True) -> None:
        self.kafka = kafka
        self.rabbit = rabbit
        self._is_owner = is_owner

    def _select_transport(self, subscription: Subscription) -> KafkaBus | RabbitBus:
        return self.kafka if isinstance(subscription.source, Topic) else self.rabbit

    @property
    def reachable(self) -> Mapping[str, bool]:
        return {**self.kafka.reachable, **self.rabbit.reachable}

    async def start(self) -> None:
        await self.kafka.start()
        await self.rabbit.start()

    async def close(self) -> None:
        await asyncio.gather(self.kafka.close(), self.rabbit.close())

    def list_background_tasks(self) -> list[tuple[str, BackgroundTask]]:
        return []

    async def declare_channels(
        self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]
    ) -> None:
        if self._is_owner:
            await self.kafka.declare_channels(channels, subscriptions)
            await self.rabbit.declare_channels(channels, subscriptions)
        elif missing_refs := await self.kafka.find_missing(channels, subscriptions) + await self.rabbit.find_missing(
            channels, subscriptions
        ):
            raise NotDeclared(missing_refs)

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        topic_messages = [message for message in messages if message.channel_type == "topic"]
        queue_messages = [message for message in messages if message.channel_type != "topic"]
        failures_by_transport = await asyncio.gather(
            _collect_failures(self.kafka, topic_messages), _collect_failures(self.rabbit, queue_messages)
        )
        if failures := [failure for of_one in failures_by_transport for failure in of_one]:
            raise PublishError(failures)

    async def consume(self, subscription: Subscription, handler: BatchHandler) -> None:
        await self._select_transport(subscription).consume(subscription, handler)

    async def stop(self) -> None:
        await asyncio.gather(self.kafka.stop(), self.rabbit.stop())

    async def measure_lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        topic_subscriptions = [subscription for subscription in subscriptions if isinstance(subscription.source, Topic)]
        queue_subscriptions = [
            subscription for subscription in subscriptions if not isinstance(subscription.source, Topic)
        ]
        topic_lag, queue_lag = await asyncio.gather(
            self.kafka.measure_lag(topic_subscriptions), self.rabbit.measure_lag(queue_subscriptions)
        )
        return topic_lag | queue_lag

    async def count_dead_letters(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        on_topics = [subscription for subscription in subscriptions if isinstance(subscription.source, Topic)]
        on_queues = [subscription for subscription in subscriptions if not isinstance(subscription.source, Topic)]
        of_topics, of_queues = await asyncio.gather(
            self.kafka.count_dead_letters(on_topics), self.rabbit.count_dead_letters(on_queues)
        )
        return of_topics | of_queues

    async def list_dead_letters(
        self,
        subscriptions: Sequence[Subscription],
        *,
        limit: int = 100,
        preview: int = DEAD_LETTER_MAX_BYTES,
        key: str | None = None,
    ) -> list[DeadLetter]:
        lists = await asyncio.gather(
            *(
                self._select_transport(subscription).list_dead_letters(
                    [subscription], limit=limit, preview=preview, key=key
                )
                for subscription in subscriptions
            )
        )
        return sorted(
            (dead_letter for dead_letters in lists for dead_letter in dead_letters),
            key=lambda dead_letter: dead_letter.dead_lettered_at,
        )[:limit]

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        on_kafka, on_rabbitmq = _split_by_transport(dead_letters)
        return await self.kafka.redrive(on_kafka) + await self.rabbit.redrive(on_rabbitmq)

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int:
        on_kafka, on_rabbitmq = _split_by_transport(dead_letters)
        return await self.kafka.discard(on_kafka) + await self.rabbit.discard(on_rabbitmq)


def _split_by_transport(dead_letters: Sequence[DeadLetter]) -> tuple[list[DeadLetter], list[DeadLetter]]:
    """A dead letter's id tells its transport: on Kafka it is an origin (topic/partition/offset@time), on RabbitMQ an id
    without a slash.
    """
    return [dead_letter for dead_letter in dead_letters if "/" in dead_letter.id], [
        dead_letter for dead_letter in dead_letters if "/" not in dead_letter.id
    ]


async def _collect_failures(bus: KafkaBus | RabbitBus, messages: Sequence[OutgoingMessage]) -> Sequence[PublishFailure]:
    """One broker's trouble is not the other's: both are heard out."""
    try:
        await bus.publish(messages)
    except PublishError as error:
        return error.failures
    return ()
