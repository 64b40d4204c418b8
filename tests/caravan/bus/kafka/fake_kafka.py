"""A Kafka in memory behind aiokafka's producer, consumer and admin client, which fails when a test tells it to.

The tests of `caravan/bus/kafka` run on it; `tests/contract` proves the same modules on a broker.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRecord, OffsetAndTimestamp, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import MessageSizeTooLargeError

Headers = Sequence[tuple[str, bytes]]


def make_record(
    topic: str,
    offset: int,
    key: bytes | None = b"key",
    value: bytes | None = b"{}",
    *,
    partition: int = 0,
    headers: Headers = (),
) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord(topic, partition, offset, int(time.time() * 1000), 0, key, value, None, 0, 0, headers)


class FakeKafka:
    def __init__(self) -> None:
        self.partitions: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]] = {}
        self.committed: dict[str, dict[TopicPartition, int]] = defaultdict(dict)
        self.producers: list[FakeProducer] = []
        self.consumers: list[FakeConsumer] = []
        self.admins: list[FakeAdmin] = []
        self.failures: dict[str, BaseException] = {}
        """What the next call of an operation, such as "commit", raises."""
        self.answers: dict[str, asyncio.Event] = {}
        """Operations that get an answer only when the event is set."""
        self.size_limit = 1_000_000

    def add_topic(self, topic: str, partitions: int = 1) -> None:
        self.partitions |= {TopicPartition(topic, number): [] for number in range(partitions)}

    def append_record(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int = 0
    ) -> ConsumerRecord[bytes, bytes]:
        log = self.partitions[TopicPartition(topic, partition)]
        log.append(make_record(topic, len(log), key, value, partition=partition, headers=headers))
        for consumer in self.consumers:
            consumer.arrival.set()
        return log[-1]

    def read_values(self, topic: str) -> list[bytes | None]:
        return [record.value for tp, log in self.partitions.items() if tp.topic == topic for record in log]

    def withhold_answer(self, *operations: str) -> asyncio.Event:
        answered = asyncio.Event()
        self.answers |= dict.fromkeys(operations, answered)
        return answered

    async def answer(self, operation: str) -> None:
        """Every operation of the clients begins here."""
        if operation in self.answers:
            await self.answers[operation].wait()
        if error := self.failures.pop(operation, None):
            raise error

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("caravan.bus.kafka.producer.AIOKafkaProducer", lambda **given: FakeProducer(self, given))
        monkeypatch.setattr("caravan.bus.kafka.inspector.AIOKafkaConsumer", lambda **given: FakeConsumer(self, given))
        monkeypatch.setattr("caravan.bus.kafka.inspector.AIOKafkaAdminClient", lambda **_: FakeAdmin(self))
        monkeypatch.setattr("aiokafka.AIOKafkaConsumer", lambda **given: FakeConsumer(self, given))


class FakeProducer:
    def __init__(self, kafka: FakeKafka, settings: Mapping[str, Any]) -> None:
        self.kafka = kafka
        self.settings = settings
        self.closings: list[str] = []
        self._closed = False
        self._sender = SimpleNamespace(
            _acks=-1 if settings["acks"] == "all" else settings["acks"], close=lambda: self._close_part("sender")
        )
        self._txn_manager = object() if settings["enable_idempotence"] else None
        self.client = SimpleNamespace(close=lambda: self._close_part("client"))
        kafka.producers.append(self)

    async def _close_part(self, part: str) -> None:
        self.closings.append(part)
        await self.kafka.answer(f"close {part}")

    async def start(self) -> None:
        await asyncio.sleep(0)
        await self.kafka.answer("start producer")

    async def flush(self) -> None:
        self.closings.append("flush")
        await self.kafka.answer("flush")

    async def partitions_for(self, topic: str) -> set[int]:
        """As aiokafka does, it waits for a topic that isn't there."""
        while not (numbers := {tp.partition for tp in self.kafka.partitions if tp.topic == topic}):
            await asyncio.Event().wait()
        return numbers

    async def send(
        self, topic: str, body: bytes | None, *, key: bytes, headers: Headers | None = None
    ) -> asyncio.Future[Any]:
        if len(body or b"") > self.kafka.size_limit:
            raise MessageSizeTooLargeError(f"The message is {len(body or b'')} bytes")
        await self.kafka.answer(f"send to {topic}")
        confirmation: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        confirmation.set_result(self.kafka.append_record(topic, key, body, headers or ()))
        return confirmation

    async def send_and_wait(self, topic: str, body: bytes | None, *, key: bytes, headers: Headers | None = None) -> Any:
        return await (await self.send(topic, body, key=key, headers=headers))


class FakeConsumer:
    """A member of a group when it has subscribed, a reader of assigned partitions otherwise."""

    def __init__(self, kafka: FakeKafka, settings: Mapping[str, Any]) -> None:
        self.kafka = kafka
        self.settings = settings
        self.group: str = settings.get("group_id") or ""
        self.listener: ConsumerRebalanceListener | None = None
        self.has_stopped = False
        self.positions: dict[TopicPartition, int] = {}
        self.paused_partitions: set[TopicPartition] = set()
        self.commits: list[dict[TopicPartition, int]] = []
        self.arrival = asyncio.Event()
        self._fetcher = SimpleNamespace(_prefetch_backoff=0.1)
        kafka.consumers.append(self)

    async def start(self) -> None:
        await asyncio.sleep(0)
        await self.kafka.answer("start consumer")

    async def stop(self) -> None:
        self.has_stopped = True
        await self.kafka.answer("stop consumer")

    def subscribe(self, topics: Collection[str], listener: ConsumerRebalanceListener) -> None:
        self.topics_of_group, self.listener = topics, listener

    async def rebalance(self, partitions: Collection[TopicPartition]) -> None:
        """All partitions are given back, and these are assigned; reading goes on from what is committed."""
        assert self.listener is not None
        await self.listener.on_partitions_revoked(set(self.positions))
        self.positions = {tp: self.kafka.committed[self.group].get(tp, 0) for tp in partitions}
        self.paused_partitions = set()
        await self.listener.on_partitions_assigned(set(partitions))
        self.arrival.set()

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.positions = dict.fromkeys(partitions, 0)

    def unsubscribe(self) -> None:
        self.positions = {}

    def assignment(self) -> set[TopicPartition]:
        return set(self.positions)

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused_partitions.update(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused_partitions.difference_update(partitions)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self.positions[tp]

    async def topics(self) -> set[str]:
        await self.kafka.answer("topics")
        return {tp.topic for tp in self.kafka.partitions}

    async def committed(self, tp: TopicPartition) -> int | None:
        return self.kafka.committed[self.group].get(tp)

    async def offsets_for_times(
        self, times: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        found = {
            tp: next((record for record in self.kafka.partitions.get(tp, []) if record.timestamp >= since), None)
            for tp, since in times.items()
        }
        await self.kafka.answer("offsets for times")
        return {
            tp: OffsetAndTimestamp(record.offset, record.timestamp) if record else None for tp, record in found.items()
        }

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        await self.kafka.answer("end offsets")
        return {tp: len(self.kafka.partitions.get(tp, [])) for tp in partitions}

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def _take_records(self, limit: int) -> Iterator[ConsumerRecord[bytes, bytes]]:
        for tp in self.positions.keys() - self.paused_partitions:
            for record in self.kafka.partitions.get(tp, [])[self.positions[tp] :][:limit]:
                self.positions[tp] = record.offset + 1
                limit -= 1
                yield record

    async def getmany(
        self, *_: TopicPartition, timeout_ms: int = 0, max_records: int = 500
    ) -> dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]:
        await self.kafka.answer("fetch")
        self.arrival.clear()
        fetched: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]] = defaultdict(list)
        for record in self._take_records(max_records):
            fetched[TopicPartition(record.topic, record.partition)].append(record)
        if not fetched and self.group:
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await self.arrival.wait()
            except TimeoutError:
                return {}
            return await self.getmany(timeout_ms=0, max_records=max_records)
        return fetched

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        await self.kafka.answer("commit")
        self.commits.append(offsets)
        self.kafka.committed[self.group] |= offsets


class FakeAdmin:
    def __init__(self, kafka: FakeKafka) -> None:
        self.kafka = kafka
        self.has_closed = False
        kafka.admins.append(self)

    async def start(self) -> None:
        await self.kafka.answer("start admin")

    async def close(self) -> None:
        self.has_closed = True
        await self.kafka.answer("close admin")

    async def list_consumer_group_offsets(self, group: str) -> dict[TopicPartition, OffsetAndTimestamp]:
        await self.kafka.answer("group offsets")
        return {tp: OffsetAndTimestamp(offset, None) for tp, offset in self.kafka.committed[group].items()}
