"""Topics on Kafka: an idempotent producer, and readers that commit only what is finished.

A reader takes batches, and holds what failed in memory with its key: later messages of that key line up behind it, other keys go on. The committed offset is
that of the oldest unfinished message, so a crash repeats some messages (the inbox knows them) and loses none. Dead letters go to the compacted topic
`<subscription>.dlq`; the topic `<subscription>.retry` brings them back to this subscription alone.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from caravan.bus import DeadLetter, Incoming, Outcome, Process, Result, Subscription
from caravan.clock import EPOCH, Clock, utc_now
from caravan.messages import Exchange, Outgoing, Queue, Topic
from caravan.telemetry import DEAD_LETTERS, log

MAX_REQUEST = 1_048_576
POLL_SECONDS = 0.5
PARKED_MAX = 2_000
"""Messages held in memory per partition; beyond it the partition is paused until some are done."""
PUBLISH_SECONDS = 30.0
BACKOFF_SECONDS = (0.05, 0.2, 1.0, 3.0)


def dead_letter_topic(subscription: str) -> str:
    return f"{subscription}.dlq"


def retry_topic(subscription: str) -> str:
    return f"{subscription}.retry"


def _partitions(subscription: Subscription) -> int:
    return subscription.source.partitions if isinstance(subscription.source, Topic) else 0


class KafkaBus:
    def __init__(self, servers: str, client: str, *, clock: Clock = utc_now, replicas: int = 1) -> None:
        self._servers = servers
        self._client = client
        self._clock = clock
        self._replicas = replicas
        self._producer = AIOKafkaProducer(
            bootstrap_servers=servers,
            client_id=client,
            enable_idempotence=True,  # and with it acks=all
            max_request_size=MAX_REQUEST,
            linger_ms=2,
            request_timeout_ms=20_000,
        )
        self._stopping = False
        self._readers: list[_Reader] = []

    async def start(self) -> None:
        try:
            await self._producer.start()
        except KafkaConnectionError as error:
            await self._producer.stop()
            raise ConnectionError(f"Kafka at {self._servers}: {error}") from error

    async def close(self) -> None:
        await self._producer.stop()

    def background(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        return []

    async def declare(self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]) -> None:
        topics: dict[str, NewTopic] = {}
        for channel in channels:
            if isinstance(channel, Topic):
                kept = {
                    "retention.ms": str(int(channel.retention.total_seconds() * 1000)),
                    "min.insync.replicas": str(max(1, self._replicas - 1)),
                }
                topics[channel.name] = NewTopic(channel.name, channel.partitions, self._replicas, topic_configs=kept)
        for subscription in subscriptions:
            if isinstance(subscription.source, Topic):
                dead = {"cleanup.policy": "compact"}
                topics[dead_letter_topic(subscription.name)] = NewTopic(
                    dead_letter_topic(subscription.name), 1, self._replicas, topic_configs=dead
                )
                topics[retry_topic(subscription.name)] = NewTopic(retry_topic(subscription.name), 1, self._replicas)
        if not topics:
            return
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers, client_id=f"{self._client}-admin")
        await admin.start()
        try:
            existing = set(await admin.list_topics())
            missing = [topic for name, topic in topics.items() if name not in existing]
            if missing:
                answer = await admin.create_topics(missing)
                for name, code, *rest in answer.topic_errors:
                    error = for_code(code)
                    if code and error is not TopicAlreadyExistsError:
                        raise error(f"topic {name}: {rest}")
        finally:
            await admin.close()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        async with asyncio.timeout(PUBLISH_SECONDS):
            sent = [
                await self._producer.send(
                    m.channel,
                    m.body,
                    key=m.key.encode(),
                    headers=[("message-id", str(m.id).encode()), ("content-type", b"application/json")],
                )
                for m in messages
            ]
            await asyncio.gather(*sent)

    async def consume(self, subscription: Subscription, process: Process) -> None:
        failures = 0
        while not self._stopping:
            reader = _Reader(self, subscription, process)
            self._readers.append(reader)
            try:
                await reader.run()
                return
            except asyncio.CancelledError:
                raise
            except Exception as error:  # broker away, or the group lost: join again, from what is committed
                failures += 1
                log.warning("consumer waits", subscription=subscription.name, error=repr(error))
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1])
            finally:
                self._readers.remove(reader)
                await reader.close()

    async def stop(self) -> None:
        self._stopping = True
        for reader in self._readers:
            reader.stopping = True

    async def lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._servers, enable_auto_commit=False)
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers, client_id=f"{self._client}-admin")
        await consumer.start()
        await admin.start()
        try:
            waiting = {}
            for subscription in subscriptions:
                partitions = [TopicPartition(subscription.channel, number) for number in range(_partitions(subscription))] + [
                    TopicPartition(retry_topic(subscription.name), 0)
                ]
                ends = await consumer.end_offsets(partitions)
                starts = await consumer.beginning_offsets(partitions)
                committed = await admin.list_consumer_group_offsets(subscription.name)
                waiting[subscription.name] = sum(ends[tp] - (committed[tp].offset if tp in committed else starts[tp]) for tp in partitions)
            return waiting
        finally:
            await admin.close()
            await consumer.stop()

    async def dead_letters(self, subscriptions: Sequence[Subscription], *, limit: int = 100) -> list[DeadLetter]:
        async with _Scan(self._servers, [dead_letter_topic(subscription.name) for subscription in subscriptions]) as found:
            letters = [letter for letter in found.values() if letter is not None]
        return sorted(letters, key=lambda letter: letter.died_at)[:limit]

    async def redrive(self, letters: Sequence[DeadLetter]) -> int:
        for letter in letters:
            await self._producer.send_and_wait(retry_topic(letter.subscription), letter.body, key=letter.key.encode())
            await self._producer.send_and_wait(dead_letter_topic(letter.subscription), None, key=letter.id.encode())
        return len(letters)

    async def bury(self, subscription: Subscription, incoming: Incoming, reason: str) -> None:
        """Write a dead letter; its key is where it came from, so that writing it twice leaves one."""
        record: ConsumerRecord = incoming.handle
        DEAD_LETTERS.labels(subscription.channel, subscription.service).inc()
        log.error("dead letter", subscription=subscription.name, key=incoming.key, attempt=incoming.attempt, reason=reason)
        headers = {
            "reason": reason[:2000],
            "channel": subscription.channel,
            "key": incoming.key,
            "attempt": str(incoming.attempt),
            "died-at": self._clock().isoformat(),
        }
        place = f"{record.topic}/{record.partition}/{record.offset}"
        await self._producer.send_and_wait(
            dead_letter_topic(subscription.name),
            incoming.body,
            key=place.encode(),
            headers=[(name, value.encode()) for name, value in headers.items()],
        )


class _Scan:
    """Reads dead-letter topics from their first record to their end."""

    def __init__(self, servers: str, topics: Sequence[str]) -> None:
        self._topics = topics
        self._consumer = AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest")

    async def __aenter__(self) -> dict[tuple[str, str], DeadLetter | None]:
        await self._consumer.start()
        try:
            existing = await self._consumer.topics()
            partitions = [TopicPartition(topic, 0) for topic in self._topics if topic in existing]
            found: dict[tuple[str, str], DeadLetter | None] = {}
            if partitions:
                self._consumer.assign(partitions)
                ends = await self._consumer.end_offsets(partitions)
                await self._consumer.seek_to_beginning(*partitions)
                while any([await self._consumer.position(tp) < ends[tp] for tp in partitions]):
                    for tp, records in (await self._consumer.getmany(timeout_ms=500)).items():
                        for record in records:
                            found[(tp.topic, (record.key or b"").decode())] = _letter(record)
            return found
        except BaseException:
            await self._consumer.stop()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()


def _letter(record: ConsumerRecord) -> DeadLetter | None:
    if record.value is None:
        return None  # redriven
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    return DeadLetter(
        id=(record.key or b"").decode(),
        subscription=record.topic.removesuffix(".dlq"),
        channel=headers.get("channel", ""),
        key=headers.get("key", ""),
        body=record.value,
        reason=headers.get("reason", ""),
        attempt=int(headers.get("attempt", "1")),
        died_at=datetime.fromisoformat(headers["died-at"]) if "died-at" in headers else EPOCH.astimezone(UTC),
    )


@dataclass(slots=True)
class _Waiting:
    """A key whose first message failed: the messages in order, and when the first is due."""

    due: float
    messages: deque[Incoming] = field(default_factory=deque)


class _Reader(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, bus: KafkaBus, subscription: Subscription, process: Process) -> None:
        self.subscription = subscription
        self.stopping = False
        self._bus = bus
        self._process = process
        self._waiting: dict[str, _Waiting] = {}
        self._open: dict[TopicPartition, set[int]] = {}
        self._next: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bus._servers,
            client_id=bus._client,
            group_id=subscription.name,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_interval_ms=600_000,
            session_timeout_ms=15_000,
            heartbeat_interval_ms=3_000,
            fetch_max_wait_ms=200,
        )

    async def run(self) -> None:
        await self._consumer.start()
        self._consumer.subscribe([self.subscription.channel, retry_topic(self.subscription.name)], listener=self)
        while not self.stopping:
            fetched = await self._consumer.getmany(timeout_ms=int(self._patience() * 1000), max_records=self.subscription.batch)
            batch = self._due() + self._fresh(record for records in fetched.values() for record in records)
            if batch:
                await self._handle(batch)
            await self._commit()
        await self._commit()

    async def close(self) -> None:
        with suppress(KafkaError, asyncio.TimeoutError):
            await asyncio.wait_for(self._consumer.stop(), 10)

    def _patience(self) -> float:
        if not self._waiting:
            return POLL_SECONDS
        soonest = min(waiting.due for waiting in self._waiting.values()) - asyncio.get_running_loop().time()
        return min(POLL_SECONDS, max(0.0, soonest))

    def _due(self) -> list[Incoming]:
        now = asyncio.get_running_loop().time()
        ready = [key for key, waiting in self._waiting.items() if waiting.due <= now]
        return [message for key in ready for message in self._waiting.pop(key).messages]

    def _fresh(self, records: Iterable[ConsumerRecord]) -> list[Incoming]:
        fresh = []
        for record in records:
            tp = TopicPartition(record.topic, record.partition)
            self._open.setdefault(tp, set()).add(record.offset)
            self._next[tp] = record.offset + 1
            incoming = Incoming((record.key or b"").decode(errors="replace"), record.value or b"", 1, record)
            waiting = self._waiting.get(incoming.key)
            if waiting:
                waiting.messages.append(incoming)
            else:
                fresh.append(incoming)
        return fresh

    async def _handle(self, batch: list[Incoming]) -> None:
        failures = 0
        while True:
            try:
                outcomes = await self._process(batch)
                break
            except asyncio.CancelledError:
                raise
            except Exception as error:  # nothing of the batch counts, and nothing is committed: the same again
                failures += 1
                log.warning("consumer waits", subscription=self.subscription.name, error=repr(error))
                if self.stopping:
                    return
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1])
        for incoming, outcome in zip(batch, outcomes, strict=True):
            await self._settle(incoming, outcome)

    async def _settle(self, incoming: Incoming, outcome: Outcome) -> None:
        used_up = outcome.result is Result.RETRY and incoming.attempt >= self.subscription.retry.attempts
        if outcome.result is Result.DEAD or used_up:
            await self._bus.bury(self.subscription, incoming, outcome.reason)
        elif outcome.result is Result.RETRY:
            delay = self.subscription.retry.delays[incoming.attempt - 1]
            again = Incoming(incoming.key, incoming.body, incoming.attempt + 1, incoming.handle)
            self._waiting[incoming.key] = _Waiting(asyncio.get_running_loop().time() + delay, deque([again]))
            return
        elif outcome.result is Result.HELD:
            # Where the one before it was given up just now, nothing is in its way any more.
            self._waiting.setdefault(incoming.key, _Waiting(0.0)).messages.append(incoming)
            return
        record = incoming.handle
        self._open.get(TopicPartition(record.topic, record.partition), set()).discard(record.offset)

    async def _commit(self) -> None:
        offsets = {tp: min(self._open.get(tp) or {position}) for tp, position in self._next.items()}
        changed = {tp: offset for tp, offset in offsets.items() if self._committed.get(tp) != offset}
        if changed:
            try:
                await self._consumer.commit(changed)
                self._committed |= changed
            except (CommitFailedError, IllegalStateError) as error:
                log.info(
                    "partitions were taken away; their messages come again elsewhere",
                    subscription=self.subscription.name,
                    error=repr(error),
                )
        for tp in self._consumer.assignment():
            if len(self._open.get(tp, ())) > PARKED_MAX:
                self._consumer.pause(tp)
            elif tp in self._consumer.paused():
                self._consumer.resume(tp)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Forget what is held of these partitions: it is not committed, so the next owner gets it."""
        for tp in revoked:
            for state in (self._open, self._next, self._committed):
                state.pop(tp, None)
        gone = set(revoked)
        for key, waiting in list(self._waiting.items()):
            waiting.messages = deque(m for m in waiting.messages if TopicPartition(m.handle.topic, m.handle.partition) not in gone)
            if not waiting.messages:
                del self._waiting[key]

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Nothing to prepare: reading starts at the committed offset, or at the first message."""
