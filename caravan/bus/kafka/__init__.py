"""Topics on Kafka: an idempotent producer, and readers that commit only what is finished.

A reader takes batches, and holds what failed in memory with its key (`reader.py`). Dead letters go to the compacted topic `<subscription>.dlq` (`letters.py`); the
topic `<subscription>.retry` brings them back to this subscription alone.
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

from caravan.bus import LETTER_BYTES, Background, DeadLetter, Incoming, Process, Subscription, Trouble, Undelivered
from caravan.bus.kafka.letters import Headers, letter_headers, letter_id
from caravan.bus.kafka.observer import Observer
from caravan.bus.kafka.producer import Producer
from caravan.bus.kafka.reader import GroupReader
from caravan.bus.reader import backoff
from caravan.bus.topology import Thing, dead_letter_topic, retry_topic, topology
from caravan.bus.topology.kafka import apply, missing
from caravan.clock import Clock, utc_now
from caravan.messages import Exchange, Outgoing, Queue, Topic
from caravan.telemetry import log

PUBLISH_SECONDS = 20.0
METADATA_SECONDS = 5.0
"""How long a topic may take to be found; one that doesn't exist must not stop those that do."""
REFUSALS = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidTopicError)
"""Answers to a message that sending it again can't change."""


def _partitions(subscription: Subscription) -> int:
    return subscription.source.partitions if isinstance(subscription.source, Topic) else 0


class KafkaBus:
    def __init__(self, servers: str, client: str, *, clock: Clock = utc_now, replicas: int = 1) -> None:
        self._servers = servers
        self._client = client
        self._clock = clock
        self._replicas = replicas
        self._producer = Producer(servers, client)
        self._observer = Observer(servers, client)
        self._stopping = False
        self._readers: list[GroupReader] = []

    async def start(self) -> None:
        try:
            await self._producer.start()
        except KafkaConnectionError as error:
            raise ConnectionError(f"Kafka at {self._servers}: {error}") from error

    async def close(self) -> None:
        await self._observer.close()
        await self._producer.close()

    def background(self) -> list[tuple[str, Background]]:
        return []

    async def declare(self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]) -> None:
        applied = await apply(self._servers, topology(channels, subscriptions, replicas=self._replicas))
        applied.tell("kafka")

    async def missing(self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]) -> list[Thing]:
        """What of these is not there; asked without any right to make it."""
        return await missing(self._servers, topology(channels, subscriptions))

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        by_topic: dict[str, list[Outgoing]] = {}
        for message in messages:
            by_topic.setdefault(message.channel, []).append(message)
        found = await asyncio.gather(*(self._publish_to(topic, group) for topic, group in by_topic.items()))
        troubles = [trouble for of_topic in found for trouble in of_topic]
        if troubles:
            raise Undelivered(troubles)

    async def _publish_to(self, topic: str, messages: Sequence[Outgoing]) -> list[Trouble]:
        try:
            await self._send(topic, messages)
            return []
        except REFUSALS as error:
            if len(messages) == 1:
                return [Trouble(messages[0], str(error) or type(error).__name__, for_good=True)]
            return await self._publish_singly(topic, messages)
        except (KafkaError, TimeoutError) as error:
            reason = f"not taken by Kafka ({type(error).__name__}); is the broker up, and does the topic exist?"
            return [Trouble(message, reason) for message in messages]

    async def _publish_singly(self, topic: str, messages: Sequence[Outgoing]) -> list[Trouble]:
        """Find the ones that are refused; what follows one under its key is not sent."""
        troubles: dict[str, list[Trouble]] = {}
        for message in messages:
            if message.key in troubles:
                troubles[message.key].append(Trouble(message, "an earlier message of its key could not be sent"))
            elif trouble := await self._publish_to(topic, [message]):
                troubles[message.key] = trouble
        return [trouble for of_key in troubles.values() for trouble in of_key]

    async def _send(self, topic: str, messages: Sequence[Outgoing]) -> None:
        async with self._producer.use() as producer:
            async with asyncio.timeout(METADATA_SECONDS):
                await producer.partitions_for(topic)
            try:
                async with asyncio.timeout(PUBLISH_SECONDS):
                    await asyncio.gather(*[await _enqueue(producer, topic, message) for message in messages])
            except (KafkaError, TimeoutError):
                self._producer.retire(producer)
                raise

    async def _write(self, topic: str, body: bytes | None, key: str, headers: Headers | None = None) -> None:
        """One record of the transport's own, such as a dead letter. Raises KafkaError or TimeoutError."""
        async with self._producer.use() as producer:
            try:
                async with asyncio.timeout(PUBLISH_SECONDS):
                    await producer.send_and_wait(topic, body, key=key.encode(), headers=headers)
            except (KafkaError, TimeoutError):
                self._producer.retire(producer)
                raise

    async def consume(self, subscription: Subscription, process: Process) -> None:
        topics = [subscription.channel, retry_topic(subscription.name)]
        failures = 0
        while not self._stopping:
            reader = GroupReader(self._servers, self._client, topics, self._bury, subscription, process)
            self._readers.append(reader)
            try:
                await reader.run()
                return
            except asyncio.CancelledError:
                raise
            except Exception as error:  # broker away, or the group lost: join again, from what is committed
                failures += 1
                log.warning("consumer waits", subscription=subscription.name, error=repr(error))
                await asyncio.sleep(backoff(failures))
            finally:
                self._readers.remove(reader)
                await reader.close()

    async def stop(self) -> None:
        self._stopping = True
        for reader in self._readers:
            reader.stop()

    async def lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        """Raises ConnectionError when Kafka can't be asked; so do the three below."""
        groups = {
            subscription.name: [
                *(TopicPartition(subscription.channel, number) for number in range(_partitions(subscription))),
                TopicPartition(retry_topic(subscription.name), 0),
            ]
            for subscription in subscriptions
        }
        return await self._observer.lag(groups) if groups else {}

    async def dead_letters(
        self, subscriptions: Sequence[Subscription], *, limit: int = 100, preview: int = LETTER_BYTES
    ) -> list[DeadLetter]:
        found = [letter for subscription in subscriptions for letter in await self._observer.letters(subscription.name, limit, preview)]
        return sorted(found, key=lambda letter: letter.died_at)[:limit]

    async def redrive(self, letters: Sequence[DeadLetter]) -> int:
        done = 0
        with _as_connection_error():
            for subscription in dict.fromkeys(letter.subscription for letter in letters):
                ids = [letter.id for letter in letters if letter.subscription == subscription]
                async for picked in self._observer.pick(subscription, ids):
                    for letter in picked:
                        if letter.whole:
                            await self._write(retry_topic(subscription), letter.body, letter.key)
                            await self._write(dead_letter_topic(subscription), None, letter.id)
                            done += 1
        return done

    async def discard(self, letters: Sequence[DeadLetter]) -> int:
        done = 0
        with _as_connection_error():
            for subscription in dict.fromkeys(letter.subscription for letter in letters):
                ids = [letter.id for letter in letters if letter.subscription == subscription]
                async for picked in self._observer.pick(subscription, ids):
                    for letter in picked:
                        await self._write(dead_letter_topic(subscription), None, letter.id)
                        done += 1
        return done

    async def _bury(self, subscription: Subscription, incoming: Incoming, reason: str) -> None:
        """Its key is where it came from, so that writing it twice leaves one letter."""
        headers = letter_headers(subscription.channel, incoming, reason, self._clock())
        await self._write(dead_letter_topic(subscription.name), incoming.body[:LETTER_BYTES], letter_id(incoming.handle), headers)


@contextmanager
def _as_connection_error() -> Iterator[None]:
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        raise ConnectionError(f"Kafka did not take it: {error!r}") from error


async def _enqueue(producer: AIOKafkaProducer, topic: str, message: Outgoing) -> Any:
    """Hand it to the producer; the future of its confirmation."""
    headers = [("message-id", str(message.id).encode()), ("content-type", b"application/json")]
    return await producer.send(topic, message.body, key=message.key.encode(), headers=headers)
