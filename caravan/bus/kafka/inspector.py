"""Reads Kafka without being a member of a group: the lag of each group, and the content of dead-letter topics.

One long-lived client serves all of it.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from caravan.bus import DeadLetter
from caravan.bus.kafka.dead_letters import parse_dead_letter, read_record_key
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.opening import finish_opening
from caravan.bus.topology import get_dead_letter_topic
from caravan.telemetry import log

_SCAN_SECONDS = 8.0
"""Longest scan of one dead-letter topic; what was not reached by then is left out, and the log says so."""
_INSPECT_SECONDS = 15.0
_POLL_MAX_RECORDS = 500
_FETCH_BATCH = 50


class KafkaInspector:
    def __init__(self, servers: KafkaServers, client: str) -> None:
        self._servers = servers
        self._client = client
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._lock = asyncio.Lock()
        self._dead_letter_counts: dict[str, tuple[int, int]] = {}
        """By subscription: the end of its topic when it was read, and how many there were."""

    @asynccontextmanager
    async def _open_clients(self) -> AsyncIterator[tuple[AIOKafkaConsumer, AIOKafkaAdminClient]]:
        """Raises ConnectionError when Kafka can't be asked; the clients are then made anew the next time."""
        try:
            async with asyncio.timeout(_INSPECT_SECONDS), self._lock:
                try:
                    yield await self._connect()
                except (
                    KafkaError,
                    TimeoutError,
                    asyncio.CancelledError,
                ):  # the deadline, too, is a cancellation in here
                    await self.close()  # while they are still ours: whoever waits for the lock would use them
                    raise
                if self._consumer is not None and self._consumer.assignment():
                    # else it goes on fetching what nobody reads. It also asks for all topics, which costs.
                    self._consumer.unsubscribe()
        except (KafkaError, TimeoutError) as error:
            raise ConnectionError(f"Kafka at {self._servers} can't be asked: {error!r}") from error

    async def _connect(self) -> tuple[AIOKafkaConsumer, AIOKafkaAdminClient]:
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                **self._servers.build_client_arguments(),
                client_id=f"{self._client}-inspect",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                request_timeout_ms=10_000,
                fetch_max_wait_ms=50,
            )
            await finish_opening(self._consumer.start())
        if self._admin is None:
            self._admin = AIOKafkaAdminClient(
                **self._servers.build_client_arguments(), client_id=f"{self._client}-inspect"
            )
            await finish_opening(self._admin.start())
        return self._consumer, self._admin

    async def close(self) -> None:
        consumer, admin, self._consumer, self._admin = self._consumer, self._admin, None, None
        with suppress(KafkaError, TimeoutError):
            if consumer is not None:
                async with asyncio.timeout(5):
                    await consumer.stop()
        with suppress(KafkaError, TimeoutError):
            if admin is not None:
                async with asyncio.timeout(5):
                    await admin.close()

    async def measure_lag(self, groups: dict[str, list[TopicPartition]]) -> dict[str, int]:
        """Messages that each group has not committed on its partitions."""
        async with self._open_clients() as (consumer, admin):
            ends = await consumer.end_offsets([tp for partitions in groups.values() for tp in partitions])
            committed = {group: await admin.list_consumer_group_offsets(group) for group in groups}
            unread = [tp for group, partitions in groups.items() for tp in partitions if tp not in committed[group]]
            starts = await consumer.beginning_offsets(unread) if unread else {}
            return {
                group: sum(
                    max(0, ends[tp] - (committed[group][tp].offset if tp in committed[group] else starts[tp]))
                    for tp in partitions
                )
                for group, partitions in groups.items()
            }

    async def count_dead_letters(self, subscriptions: Sequence[str]) -> dict[str, int]:
        """A topic is read only when its end has moved since it was read last: removing one is a record, too."""
        topics = {name: TopicPartition(get_dead_letter_topic(name), 0) for name in subscriptions}
        async with self._open_clients() as (consumer, _):
            ends = await consumer.end_offsets(list(topics.values())) if topics else {}
        for name, tp in topics.items():
            if self._dead_letter_counts.get(name, (0, 0))[0] != ends[tp]:
                self._dead_letter_counts[name] = (ends[tp], len(await self._find_offsets(name)))
        return {name: self._dead_letter_counts.get(name, (0, 0))[1] for name in topics}

    async def list_dead_letters(
        self, subscription: str, limit: int, preview: int, key: str | None = None
    ) -> list[DeadLetter]:
        """The first `limit` dead letters (of this key) that are still there."""
        offsets = await self._find_offsets(subscription)
        batches = self._read_in_batches(subscription, offsets[:limit] if key is None else offsets, preview)
        found = [each async for batch in batches for each in batch if key is None or each.key == key]
        return found[:limit]

    async def fetch_dead_letters(self, subscription: str, ids: Sequence[str]) -> AsyncIterator[list[DeadLetter]]:
        """These dead letters, whole and in their order, a few in memory at a time. Those that are gone are left
        out.
        """
        offsets = await self._find_offsets(subscription, frozenset(ids))
        async for batch in self._read_in_batches(subscription, offsets):
            yield batch

    async def _find_offsets(self, subscription: str, ids: Collection[str] | None = None) -> list[int]:
        """Of the dead letters that are still there, of all or of those with these ids. Reads the topic to its end,
        because a later record may have removed an earlier one.
        """
        offsets: dict[str, int] = {}
        async with self._open_clients() as (consumer, _):
            async for record in _read_records(consumer, get_dead_letter_topic(subscription)):
                key = read_record_key(record)
                if record.value is None:
                    offsets.pop(key, None)
                elif ids is None or key in ids:
                    offsets[key] = record.offset
        return sorted(offsets.values())

    async def _read_in_batches(
        self, subscription: str, offsets: Sequence[int], preview: int | None = None
    ) -> AsyncIterator[list[DeadLetter]]:
        topic = get_dead_letter_topic(subscription)
        for start in range(0, len(offsets), _FETCH_BATCH):
            chunk = offsets[start : start + _FETCH_BATCH]
            async with self._open_clients() as (consumer, _):
                records = _read_records(consumer, topic, chunk[0], chunk[-1] + 1)
                batch = [parse_dead_letter(record, preview) async for record in records if record.offset in chunk]
            yield batch


async def _read_records(
    consumer: AIOKafkaConsumer, topic: str, first: int = 0, end: int | None = None
) -> AsyncIterator[ConsumerRecord]:
    """The records of a topic's one partition from `first` to `end` (default: its end now), within a bounded time."""
    tp = TopicPartition(topic, 0)
    if topic not in await consumer.topics():
        return
    consumer.assign([tp])
    end = (await consumer.end_offsets([tp]))[tp] if end is None else end
    consumer.seek(tp, max(first, (await consumer.beginning_offsets([tp]))[tp]))
    deadline = asyncio.get_running_loop().time() + _SCAN_SECONDS
    while await consumer.position(tp) < end:
        if asyncio.get_running_loop().time() > deadline:
            log.warning("dead letters not read to the end", topic=topic, seconds=_SCAN_SECONDS)
            return
        for record in (await consumer.getmany(tp, timeout_ms=500, max_records=_POLL_MAX_RECORDS)).get(tp, ()):
            if record.offset < end:
                yield record
