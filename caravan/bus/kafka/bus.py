"""The bus of topics on Kafka: what a process publishes to, consumes from, and asks for lag and dead letters.

Each subscription is read by a `GroupReader` of its own (`reader.py`); `caravan/runtime/backends.py` makes the bus.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from caravan.backoff import compute_backoff
from caravan.bus import (
    DEAD_LETTER_MAX_BYTES,
    BackgroundTask,
    BatchHandler,
    DeadLetter,
    IncomingMessage,
    PublishError,
    PublishFailure,
    Subscription,
)
from caravan.bus.kafka.dead_letters import Headers, build_dead_letter_headers, build_dead_letter_id
from caravan.bus.kafka.inspector import KafkaInspector
from caravan.bus.kafka.producer import Producer
from caravan.bus.kafka.reader import GroupReader
from caravan.bus.kafka.subscriber import build_broker
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.observation import PublishSpans
from caravan.bus.topology import ObjectRef, build_topology, get_dead_letter_topic, get_retry_topic
from caravan.bus.topology.kafka import apply_topology, describe_failure, find_missing
from caravan.clock import Clock, utc_now
from caravan.concurrency import raise_if_cancelled
from caravan.messages import Exchange, OutgoingMessage, Queue, Topic
from caravan.telemetry import log

_PUBLISH_SECONDS = 20.0
_METADATA_SECONDS = 5.0
"""How long a topic may take to be found; one that doesn't exist must not stop those that do."""
_PERMANENT_ERRORS = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidTopicError)
"""Answers to a message that sending it again can't change."""


def _count_partitions(subscription: Subscription) -> int:
    return subscription.source.partitions if isinstance(subscription.source, Topic) else 0


class KafkaBus:
    def __init__(self, servers: KafkaServers, client: str, *, clock: Clock = utc_now, replicas: int = 1) -> None:
        self._servers = servers
        self._clock = clock
        self._replicas = replicas
        self._producer = Producer(servers, client)
        self._broker = build_broker(servers, client)
        self._inspector = KafkaInspector(servers, client)
        self._is_stopping = False
        self.reachable: dict[str, bool] = {}
        self._readers: list[GroupReader] = []

    async def start(self) -> None:
        try:
            await self._producer.start()
        except KafkaConnectionError as error:
            raise ConnectionError(await describe_failure(self._servers, error)) from error

    async def close(self) -> None:
        await self._broker.stop()
        await self._inspector.close()
        await self._producer.close()

    def list_background_tasks(self) -> list[tuple[str, BackgroundTask]]:
        return []

    async def declare_channels(
        self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]
    ) -> None:
        result = await apply_topology(self._servers, build_topology(channels, subscriptions, replicas=self._replicas))
        result.log("kafka")

    async def find_missing(
        self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]
    ) -> list[ObjectRef]:
        """What of these is not there; asked without any right to make it."""
        return await find_missing(self._servers, build_topology(channels, subscriptions))

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        by_topic: dict[str, list[OutgoingMessage]] = {}
        for message in messages:
            by_topic.setdefault(message.channel, []).append(message)
        failures_by_topic = await asyncio.gather(
            *(self._publish_observed(topic, group) for topic, group in by_topic.items())
        )
        failures = [failure for of_topic in failures_by_topic for failure in of_topic]
        if failures:
            raise PublishError(failures)

    async def _publish_observed(self, topic: str, messages: Sequence[OutgoingMessage]) -> list[PublishFailure]:
        with PublishSpans(messages, "kafka") as spans:
            failures = await self._publish_to_topic(topic, messages)
            spans.record_failures(failures)
        return failures

    async def _publish_to_topic(self, topic: str, messages: Sequence[OutgoingMessage]) -> list[PublishFailure]:
        try:
            await self._send_batch(topic, messages)
            return []
        except _PERMANENT_ERRORS as error:
            if len(messages) == 1:
                return [PublishFailure(messages[0], str(error) or type(error).__name__, permanent=True)]
            return await self._publish_one_by_one(topic, messages)
        except (KafkaError, TimeoutError) as error:
            reason = f"not taken by Kafka ({type(error).__name__}); is the broker up, and does the topic exist?"
            return [PublishFailure(message, reason) for message in messages]

    async def _publish_one_by_one(self, topic: str, messages: Sequence[OutgoingMessage]) -> list[PublishFailure]:
        """Find the ones that are refused; what follows one under its key is not sent. Once the broker takes nothing,
        the rest is not sent either: each would wait until the deadline.
        """
        failures: list[PublishFailure] = []
        failed_keys: set[str] = set()
        for index, message in enumerate(messages):
            if message.key in failed_keys:
                failures.append(PublishFailure(message, "an earlier message of its key could not be sent"))
            elif of_message := await self._publish_to_topic(topic, [message]):
                failures += of_message
                failed_keys.add(message.key)
                if not of_message[0].permanent:
                    reason = of_message[0].reason
                    return failures + [PublishFailure(later, reason) for later in messages[index + 1 :]]
        return failures

    async def _send_batch(self, topic: str, messages: Sequence[OutgoingMessage]) -> None:
        async with self._producer.use_producer() as producer:
            async with asyncio.timeout(_METADATA_SECONDS):
                await producer.partitions_for(topic)
            try:
                async with asyncio.timeout(_PUBLISH_SECONDS):
                    await asyncio.gather(*[await _enqueue_message(producer, topic, message) for message in messages])
            except (KafkaError, TimeoutError):
                self._producer.retire_producer(producer)
                raise

    async def _write_record(self, topic: str, body: bytes | None, key: str, headers: Headers | None = None) -> None:
        """One record of the transport's own, such as a dead letter. Raises KafkaError or TimeoutError."""
        async with self._producer.use_producer() as producer:
            try:
                async with asyncio.timeout(_PUBLISH_SECONDS):
                    await producer.send_and_wait(topic, body, key=key.encode(), headers=headers)
            except (KafkaError, TimeoutError):
                self._producer.retire_producer(producer)
                raise

    async def consume(self, subscription: Subscription, handler: BatchHandler) -> None:
        topics = [subscription.channel, get_retry_topic(subscription.name)]
        failures = 0
        await self._broker.connect()
        while not self._is_stopping:
            reader = GroupReader(self._broker, self._servers, topics, self._write_dead_letter, subscription, handler)
            self._readers.append(reader)
            try:
                await reader.run()
                return
            except asyncio.CancelledError:
                raise
            except Exception as error:  # broker unavailable, or the group lost: join again, from what is committed
                raise_if_cancelled(error)
                failures += 1
                log.warning("consumer is retrying", subscription=subscription.name, error=repr(error))
                await asyncio.sleep(compute_backoff(failures))
            finally:
                self._readers.remove(reader)
                await reader.close()

    async def stop(self) -> None:
        self._is_stopping = True
        for reader in self._readers:
            reader.stop()

    async def measure_lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        """Raises ConnectionError when Kafka can't be asked; so do the three below."""
        partitions_by_group = {
            subscription.name: [
                *(TopicPartition(subscription.channel, number) for number in range(_count_partitions(subscription))),
                TopicPartition(get_retry_topic(subscription.name), 0),
            ]
            for subscription in subscriptions
        }
        if not partitions_by_group:
            return {}
        self.reachable["kafka"] = False
        lag = await self._inspector.measure_lag(partitions_by_group)
        self.reachable["kafka"] = True
        return lag

    async def count_dead_letters(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        return await self._inspector.count_dead_letters([subscription.name for subscription in subscriptions])

    async def list_dead_letters(
        self,
        subscriptions: Sequence[Subscription],
        *,
        limit: int = 100,
        preview: int = DEAD_LETTER_MAX_BYTES,
        key: str | None = None,
    ) -> list[DeadLetter]:
        dead_letters = [
            dead_letter
            for subscription in subscriptions
            for dead_letter in await self._inspector.list_dead_letters(subscription.name, limit, preview, key)
        ]
        return sorted(dead_letters, key=lambda dead_letter: dead_letter.dead_lettered_at)[:limit]

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        count = 0
        with _translate_errors():
            for subscription in dict.fromkeys(dead_letter.subscription for dead_letter in dead_letters):
                ids = [dead_letter.id for dead_letter in dead_letters if dead_letter.subscription == subscription]
                async for batch in self._inspector.fetch_dead_letters(subscription, ids):
                    for dead_letter in batch:
                        if dead_letter.redrivable:
                            await self._write_record(get_retry_topic(subscription), dead_letter.body, dead_letter.key)
                            await self._write_record(get_dead_letter_topic(subscription), None, dead_letter.id)
                            count += 1
        return count

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int:
        count = 0
        with _translate_errors():
            for subscription in dict.fromkeys(dead_letter.subscription for dead_letter in dead_letters):
                ids = [dead_letter.id for dead_letter in dead_letters if dead_letter.subscription == subscription]
                async for batch in self._inspector.fetch_dead_letters(subscription, ids):
                    for dead_letter in batch:
                        await self._write_record(get_dead_letter_topic(subscription), None, dead_letter.id)
                        count += 1
        return count

    async def _write_dead_letter(self, subscription: Subscription, incoming: IncomingMessage, reason: str) -> None:
        """Its key is where it came from, so that writing it twice leaves one dead letter."""
        headers = build_dead_letter_headers(subscription.channel, incoming, reason, self._clock())
        await self._write_record(
            get_dead_letter_topic(subscription.name),
            incoming.body[:DEAD_LETTER_MAX_BYTES],
            build_dead_letter_id(incoming.handle),
            headers,
        )


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        raise ConnectionError(f"Kafka did not take it: {error!r}") from error


async def _enqueue_message(producer: AIOKafkaProducer, topic: str, message: OutgoingMessage) -> Any:
    """Hand it to the producer; the future of its confirmation."""
    headers = [("message-id", str(message.id).encode()), ("content-type", b"application/json")]
    if (traceparent := message.traceparent) is not None:
        headers.append(("traceparent", traceparent.encode()))
    return await producer.send(topic, message.body, key=message.key.encode(), headers=headers)
