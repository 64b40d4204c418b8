"""The bus of a laptop: publishes into the tables, keeps the readers of a process, wakes those of others, and prunes
what is past its retention.

`reader.py` takes the messages from the tables; `caravan/runtime/backends.py` makes the bus.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

import asyncpg

from caravan import fault_flags
from caravan.backoff import compute_backoff
from caravan.bus import (
    DEAD_LETTER_MAX_BYTES,
    NEW_READER_AGE,
    BackgroundTask,
    BatchHandler,
    DeadLetter,
    Subscription,
)
from caravan.bus.embedded import statements
from caravan.bus.embedded.reader import NOTIFIED_POLL_SECONDS, POLL_SECONDS, QueueReader, TopicReader
from caravan.bus.observation import BatchObserver, PublishSpans
from caravan.concurrency import raise_if_cancelled
from caravan.database import CONNECTION_LOST, Database
from caravan.leadership import Leadership
from caravan.messages import Binding, Exchange, OutgoingMessage, Queue, Topic, build_routing_regex
from caravan.pacing import compute_rest
from caravan.telemetry import log

SYSTEM = "postgresql"
"""What spans name as the transport."""
_PRUNE_ROWS = 5_000
_PRUNE_SECONDS = 60.0
_RELEASE_SECONDS = 1.0
_NOTIFY_INTERVAL_SECONDS = 0.03
"""Least time between two notifications of other processes."""


class EmbeddedBus:
    reachable: Mapping[str, bool] = {}

    def __init__(self, database: Database, leadership: Leadership) -> None:
        self.database = database
        self.leadership = leadership
        self._readers: dict[str, list[QueueReader | TopicReader]] = {}
        self._channels_to_notify: set[str] = set()
        self._notify_requested = asyncio.Event()
        self._is_stopping = False
        self.messages_arrived = asyncio.Event()
        """Set whenever something was published, here or, where notifications arrive, elsewhere; who waits for it clears
        it.
        """
        self._retention: dict[str, timedelta] = {}

    async def start(self) -> None:
        await self.leadership.listen("bus", self._handle_notification)

    async def close(self) -> None:
        """Its database is the process's to close."""

    def list_background_tasks(self) -> list[tuple[str, BackgroundTask]]:
        return [("wake other processes", self.notify_other_processes), ("prune topics", self.prune_periodically)]

    async def declare_channels(
        self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]
    ) -> None:
        for channel in channels:
            if isinstance(channel, Topic):
                self._retention[channel.name] = channel.retention
        async with self.database.unit_of_work() as uow:
            for subscription in subscriptions:
                match subscription.source:
                    case Topic(name=topic):
                        await statements.INSERT_CURSOR.execute(
                            uow,
                            subscription=subscription.name,
                            topic=topic,
                            before=self.database.clock() - NEW_READER_AGE,
                        )
                    case Binding(exchange=exchange, patterns=patterns):
                        regexes = [build_routing_regex(pattern) for pattern in patterns]
                        await statements.DELETE_OTHER_BINDINGS.execute(
                            uow, exchange=exchange.name, subscription=subscription.name, patterns=regexes
                        )
                        await uow.execute(
                            "INSERT INTO binding SELECT $1, p, $2 FROM unnest($3::text[]) p ON CONFLICT DO NOTHING",
                            exchange.name,
                            subscription.name,
                            regexes,
                        )

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        columns = list(
            zip(*((m.channel_type, m.channel, m.routing_key, m.key, m.id, m.body) for m in messages), strict=True)
        )
        with PublishSpans(messages, SYSTEM):
            await self.database.fetch("SELECT publish($1, $2, $3, $4, $5, $6)", *(list(column) for column in columns))
        names = {m.channel for m in messages}
        for name in names:
            self._wake_readers(name)
        self._channels_to_notify |= names
        self._notify_requested.set()

    async def notify_other_processes(self) -> None:
        """Wake readers in other processes by a notification outside the publishing transaction, where a NOTIFY would
        serialise all commits.
        """
        while True:
            await self._notify_requested.wait()
            self._notify_requested.clear()
            names, self._channels_to_notify = self._channels_to_notify, set()
            with suppress(*CONNECTION_LOST, asyncpg.PostgresError):
                await self.leadership.notify("bus", ",".join(sorted(names)))
            await asyncio.sleep(_NOTIFY_INTERVAL_SECONDS)

    def _handle_notification(self, payload: str) -> None:
        """Names of channels with new messages; `!` before one whose messages were put back; nothing when notifications
        may have been lost.
        """
        for name in payload.split(",") if payload else (f"!{name}" for name in self._readers):
            if name.startswith("!"):
                for reader in self._readers.get(name[1:], ()):
                    reader.request_reload()
            else:
                self._wake_readers(name)

    def _wake_readers(self, channel: str) -> None:
        self.messages_arrived.set()
        for reader in self._readers.get(channel, ()):
            reader.wake_event.set()

    def _choose_poll_seconds(self) -> float:
        return self.leadership.choose_poll_seconds(NOTIFIED_POLL_SECONDS, POLL_SECONDS)

    async def consume(self, subscription: Subscription, handler: BatchHandler) -> None:
        try:
            await self._run_reader(subscription, handler)
        finally:  # this connection stays open as long as its process: others would wait for a reader that has left
            with suppress(*CONNECTION_LOST, asyncpg.PostgresError):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await self.leadership.release(f"consume {subscription.name}")

    async def _run_reader(self, subscription: Subscription, handler: BatchHandler) -> None:
        reader_class = TopicReader if isinstance(subscription.source, Topic) else QueueReader
        observed_handler = BatchObserver(subscription, SYSTEM).wrap_handler(handler)
        reader = reader_class(self.database, subscription, observed_handler, self._choose_poll_seconds)
        self._readers.setdefault(subscription.channel, []).append(reader)
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            try:
                if self._is_stopping:
                    if reader.is_loaded:
                        await reader.acknowledge_batch()
                    return
                if not await self.leadership.try_lead(f"consume {subscription.name}"):
                    reader.is_loaded = False
                    await asyncio.sleep(POLL_SECONDS / 2)
                    continue
                if not reader.is_loaded:
                    await reader.load_waiting_keys()
                if fault_flags.active:
                    await fault_flags.hold(fault_flags.CONSUMER_STUCK, subscription.name, lambda: self._is_stopping)
                reader.wake_event.clear()
                started_at = loop.time()
                handled_count = await reader.handle_next_batch()
                failures = 0
                if 0 < handled_count < subscription.batch and not self._is_stopping:
                    await asyncio.sleep(compute_rest(subscription.linger, loop.time() - started_at))
                if (
                    handled_count < subscription.batch
                    and (not handled_count or self.leadership.receives_notifications)
                    and not self._is_stopping
                ):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(reader.seconds_until_due(self.database.clock())):
                            await reader.wake_event.wait()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # nothing of the batch counts: it is read again
                raise_if_cancelled(error)
                if self._is_stopping:
                    return
                failures += 1
                reader.is_loaded = False
                level = log.warning if isinstance(error, CONNECTION_LOST) else log.error
                level(
                    "consumer is retrying",
                    subscription=subscription.name,
                    error=repr(error),
                    exc_info=not isinstance(error, CONNECTION_LOST),
                )
                await asyncio.sleep(compute_backoff(failures))

    async def stop(self) -> None:
        self._is_stopping = True
        for channel in self._readers:
            self._wake_readers(channel)

    async def measure_lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        rows = await self.database.fetch(
            "SELECT s, (SELECT count(*) FROM delivery d WHERE d.subscription = s) + coalesce((SELECT count(*) FROM ("
            "SELECT 1 FROM cursor c JOIN topic_log l ON l.topic = c.topic AND l.position > c.position WHERE "
            "c.subscription = s LIMIT 100000) AS unread), 0)"
            " FROM unnest($1::text[]) AS s",
            [subscription.name for subscription in subscriptions],
        )
        return {row[0]: row[1] for row in rows}

    async def count_dead_letters(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        names = [subscription.name for subscription in subscriptions]
        rows = await self.database.fetch(
            "SELECT subscription, count(*) FROM dead_letter WHERE subscription = ANY($1) GROUP BY 1", names
        )
        return dict.fromkeys(names, 0) | {row[0]: row[1] for row in rows}

    async def list_dead_letters(
        self,
        subscriptions: Sequence[Subscription],
        *,
        limit: int = 100,
        preview: int = DEAD_LETTER_MAX_BYTES,
        key: str | None = None,
    ) -> list[DeadLetter]:
        names = [subscription.name for subscription in subscriptions]
        if key is None:
            return await statements.LIST_DEAD_LETTERS.fetch_all(
                self.database, subscriptions=names, limit=limit, preview=preview
            )
        return await statements.LIST_DEAD_LETTERS_OF_KEY.fetch_all(
            self.database, subscriptions=names, key=key, limit=limit, preview=preview
        )

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        rows = await self.database.fetch(
            "WITH gone AS (DELETE FROM dead_letter WHERE id = ANY($1) RETURNING id, subscription, channel, key, body)"
            " INSERT INTO delivery (subscription, channel, key, body, attempt, due_at)"
            # A topic's reader looks only at its waiting keys in this table, so a redriven message is a waiting one that
            # is due at once.
            " SELECT subscription, channel, key, body, 1, now() FROM gone ORDER BY id RETURNING channel",
            [int(dead_letter.id) for dead_letter in dead_letters],
        )
        notification = ",".join({f"!{row[0]}" for row in rows})
        self._handle_notification(notification)
        await self.leadership.notify("bus", notification)
        return len(rows)

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int:
        return await statements.DISCARD.execute(
            self.database, ids=[int(dead_letter.id) for dead_letter in dead_letters]
        )

    async def get_end_position(self) -> int:
        """Where the log of the topics ends now."""
        return await statements.GET_END.fetch_value(self.database) or 0

    async def list_newest_messages(self, position: int, limit: int) -> list[statements.PublishedMessage]:
        """The newest of what was published on topics after a position, in their order."""
        return (await statements.LIST_NEWEST.fetch_all(self.database, position=position, limit=limit))[::-1]

    async def prune_periodically(self) -> None:
        while True:
            await asyncio.sleep(_PRUNE_SECONDS)
            with suppress(*CONNECTION_LOST):
                await self.prune_topics()

    async def prune_topics(self) -> None:
        """Drop what a topic's retention no longer keeps and every group has read."""
        for topic, retention in self._retention.items():
            before = self.database.clock() - retention
            while await self.database.execute(statements.PRUNE, topic, before, _PRUNE_ROWS) == _PRUNE_ROWS:
                pass
