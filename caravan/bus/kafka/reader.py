"""One member of a consumer group: takes batches, and commits, at most ten times a second, the offset of the oldest
unfinished message.

A crash repeats some messages (the inbox knows them) and loses none. When partitions are revoked, the running batch is
finished and committed first; what waits of them is left to the next owner, who starts with it: nothing is overtaken.
The reader drives a subscriber of FastStream's (`subscriber.py`), which has the consumer and runs the batches.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faststream.kafka import KafkaBroker

from caravan.bus import NEW_READER_AGE, BatchHandler, IncomingMessage, Subscription
from caravan.bus.kafka.subscriber import add_subscriber
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.pipeline import run_pipeline
from caravan.bus.reader import Reader
from caravan.bus.retry_buffer import RETRY_BUFFER_MAX
from caravan.telemetry import log

_REVOKE_SECONDS = 45.0
"""How long a rebalance waits for the running batch; less than the group waits for its members."""
_ASSIGN_SECONDS = 30.0
"""How long a reader looks for where to begin."""
_CLOSE_SECONDS = 10.0
_COMMIT_SECONDS = 0.1
"""So long a busy reader's finished messages may wait for their commit: as many come again after a crash, and each batch
is spared a round trip.
"""
_UNCOMMITTED_SECONDS = 0.5
"""So long the last ones wait when nothing follows."""
_SETTINGS: dict[str, Any] = {
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "max_poll_interval_ms": 600_000,
    "rebalance_timeout_ms": 60_000,
    "session_timeout_ms": 15_000,
    "heartbeat_interval_ms": 3_000,
    # The broker answers at once when there is something; each empty answer is work for us. What is asked after a
    # rebalance waits for it at most so long.
    "fetch_max_wait_ms": 5_000,
    # How often the client looks whether it should ask anything, which it is woken for as well.
    "consumer_timeout_ms": 10_000,
    # A topic made, or given partitions, after its reader started is found this soon.
    "metadata_max_age_ms": 20_000,
    # A record over these limits still arrives, alone: the broker gives at least one.
    "fetch_max_bytes": 16_777_216,
    # Nothing else is asked of a broker until what it gave is handled, so that no partition has much of it.
    "max_partition_fetch_bytes": 524_288,
}

DeadLetterWriter = Callable[[Subscription, IncomingMessage, str], Awaitable[None]]


def build_incoming(record: ConsumerRecord) -> IncomingMessage:
    return IncomingMessage((record.key or b"").decode(errors="replace"), record.value or b"", 1, record)


class GroupReader(Reader, ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(
        self,
        broker: KafkaBroker,
        servers: KafkaServers,
        topics: list[str],
        write_dead_letter: DeadLetterWriter,
        subscription: Subscription,
        handler: BatchHandler,
    ) -> None:
        settings = {**servers.build_client_arguments(), **_SETTINGS}
        self._subscriber = add_subscriber(broker, subscription, topics, handler, listener=self, settings=settings)
        super().__init__(subscription, partial(run_pipeline, self._subscriber))
        self._write_dead_letter = write_dead_letter
        self._batch_lock = asyncio.Lock()
        """Held while a batch runs, and by a rebalance that waits for it."""
        self._assigned_partitions: frozenset[TopicPartition] = frozenset()
        self._assignment_count = 0
        self._is_lost = False
        self._unfinished_offsets: dict[TopicPartition, set[int]] = {}
        self._paused_partitions: set[TopicPartition] = set()
        self._next_offsets: dict[TopicPartition, int] = {}
        self._committed_offsets: dict[TopicPartition, int] = {}
        self._next_commit_at = 0.0
        self._uncommitted = False
        """Whether something may have been finished since the last commit."""

    async def run(self) -> None:
        await self._subscriber.start()
        consumer = self._subscriber.get_consumer()
        loop = asyncio.get_running_loop()
        while not self.is_stopping:
            timeout_ms = self.retry_buffer.seconds_until_due(loop.time())
            if self._uncommitted:
                timeout_ms = min(timeout_ms, _UNCOMMITTED_SECONDS)
            # Only `stop` cancels it; even then what it has fetched is not committed, and comes again.
            coming = consumer.getmany(timeout_ms=int(timeout_ms * 1000), max_records=self.subscription.batch)
            fetched = await self.wait_for(coming) or {}
            self.check_ownership()
            assignment_count = self._assignment_count
            async with self._batch_lock:
                batch = self.retry_buffer.pop_due(loop.time(), self.subscription.batch)
                # What was fetched before a rebalance is fetched again after it, by whoever owns it then.
                if assignment_count == self._assignment_count:
                    batch += self._accept_records(fetched)
                if batch:
                    self._uncommitted = True
                    await self.handle_batch(batch)
                if not batch or loop.time() >= self._next_commit_at:
                    await self._commit_offsets()
                    self._next_commit_at = loop.time() + _COMMIT_SECONDS
                self._pause_full_partitions()
        async with self._batch_lock:
            await self._commit_offsets()

    async def close(self) -> None:
        """Leave the group, so that others need not wait for a session to run out."""
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._subscriber.stop()

    def _accept_records(self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> list[IncomingMessage]:
        messages = []
        for tp, records in fetched.items():
            if tp not in self._assigned_partitions or not records:
                continue
            self._unfinished_offsets.setdefault(tp, set()).update([record.offset for record in records])
            self._next_offsets[tp] = records[-1].offset + 1
            for record in records:
                incoming = build_incoming(record)
                if not self.retry_buffer.enqueue_behind(incoming):
                    messages.append(incoming)
        return messages

    async def acknowledge_messages(self, done: Sequence[IncomingMessage]) -> None:
        for incoming in done:
            record = incoming.handle
            # Equal to a TopicPartition, and made in a third of the time.
            if (offsets := self._unfinished_offsets.get((record.topic, record.partition))) is not None:
                offsets.discard(record.offset)

    async def record_attempt(self, incoming: IncomingMessage, delay: float) -> None:
        """A log can't note it: the next owner of the partition begins again with attempt 1."""

    async def dead_letter(self, incoming: IncomingMessage, reason: str) -> None:
        await self._write_dead_letter(self.subscription, incoming, reason)
        await self.acknowledge_messages([incoming])

    def check_ownership(self) -> None:
        if self._is_lost:
            raise ConnectionError("the group went on without this reader; it joins again")

    async def _commit_offsets(self) -> None:
        offsets = {
            tp: min(self._unfinished_offsets.get(tp) or {position}) for tp, position in self._next_offsets.items()
        }
        changed_offsets = {tp: offset for tp, offset in offsets.items() if self._committed_offsets.get(tp) != offset}
        if not changed_offsets:
            self._uncommitted = False
            return
        try:
            await self._subscriber.get_consumer().commit(changed_offsets)
            self._committed_offsets |= changed_offsets
            self._uncommitted = False
        except (CommitFailedError, IllegalStateError) as error:
            log.info("not committed; these messages come again", subscription=self.subscription.name, error=repr(error))

    def _pause_full_partitions(self) -> None:
        """Called after every batch, so the consumer is asked for nothing while nothing changes."""
        full = {tp for tp, offsets in self._unfinished_offsets.items() if len(offsets) > RETRY_BUFFER_MAX}
        if full != self._paused_partitions:
            consumer = self._subscriber.get_consumer()
            consumer.pause(*(full - self._paused_partitions))
            consumer.resume(*(self._paused_partitions - full))
            self._paused_partitions = full

    async def on_partitions_revoked(self, revoked: Any) -> None:
        try:
            async with asyncio.timeout(_REVOKE_SECONDS), self._batch_lock:
                await self._commit_offsets()
                self._reset_assignment()
        except TimeoutError:
            self._is_lost = True
            log.warning(
                "a rebalance did not wait for the batch in hand",
                subscription=self.subscription.name,
                seconds=_REVOKE_SECONDS,
            )

    def _reset_assignment(self) -> None:
        """Assignments are eager: all partitions are given back, and read again from what is committed."""
        self._assignment_count += 1
        self._assigned_partitions = frozenset()
        self._paused_partitions = set()  # an assignment begins with none paused
        self.retry_buffer.clear()
        for offsets in (self._unfinished_offsets, self._next_offsets, self._committed_offsets):
            offsets.clear()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """The partitions are paused before anything is awaited: what the consumer fetched of them before this reader
        takes it would be passed over.
        """
        partitions, consumer = list(assigned), self._subscriber.get_consumer()
        consumer.pause(*partitions)
        try:
            async with asyncio.timeout(_ASSIGN_SECONDS):
                await self._skip_old_messages(partitions)
        except (KafkaError, TimeoutError) as error:
            # The group would go on with a reader that takes nothing: aiokafka only logs what a listener raises.
            log.warning("not known where to begin", subscription=self.subscription.name, error=repr(error))
            self._is_lost = True
            self.wake()
            return
        self._assigned_partitions = frozenset(partitions)
        consumer.resume(*partitions)

    async def _skip_old_messages(self, partitions: Sequence[TopicPartition]) -> None:
        """Where the group has no position, begin NEW_READER_AGE back; at the end when all is older.

        The end is read first: what comes while the times are looked up lies behind it. The position is committed with
        the next ones, so that a partition on which nothing has come yet has one, too.
        """
        consumer = self._subscriber.get_consumer()
        positions = await asyncio.gather(*[consumer.committed(tp) for tp in partitions])
        new_partitions = [tp for tp, position in zip(partitions, positions, strict=True) if position is None]
        if not new_partitions:
            return
        ends = await consumer.end_offsets(new_partitions)
        since_ms = int((time.time() - NEW_READER_AGE.total_seconds()) * 1000)
        found = await consumer.offsets_for_times(dict.fromkeys(new_partitions, since_ms))
        for tp in new_partitions:
            first = found.get(tp)
            self._next_offsets[tp] = first.offset if first is not None else ends[tp]
            consumer.seek(tp, self._next_offsets[tp])
        self._uncommitted = True
