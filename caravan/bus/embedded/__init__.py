"""The durable bus of a laptop: topics, queues and exchanges as tables of one Postgres database.

A topic is a log with a cursor per group; a queue is rows that are deleted when they are done. What failed waits in `delivery` with its key: later messages
of a waiting key line up behind it. Each subscription has one active reader at a time (an advisory lock), so order needs no further locking.
"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import asyncpg

from caravan.bus import LETTER_BYTES, Background, DeadLetter, Process, Subscription
from caravan.bus.embedded.reader import HEARD_POLL_SECONDS, POLL_SECONDS, QueueReader, TopicReader
from caravan.bus.reader import backoff
from caravan.database import CONNECTION_LOST, Database
from caravan.leadership import Leadership
from caravan.messages import Binding, Exchange, Outgoing, Queue, Topic
from caravan.telemetry import log

PRUNE_ROWS = 5_000
PRUNE_SECONDS = 60.0
RELEASE_SECONDS = 1.0
TELL_SECONDS = 0.03
"""Least time between two hints to other processes."""


class EmbeddedBus:
    def __init__(self, database: Database, leadership: Leadership) -> None:
        self.database = database
        self.leadership = leadership
        self._readers: dict[str, list[QueueReader | TopicReader]] = {}
        self._to_tell: set[str] = set()
        self._telling = asyncio.Event()
        self._stopping = False
        self.moved = asyncio.Event()
        """Set whenever something was published, here or, where notifications arrive, elsewhere; who waits for it clears it."""
        self._retention: dict[str, timedelta] = {}

    async def start(self) -> None:
        await self.leadership.listen("bus", self._heard)

    async def close(self) -> None:
        """Its database is the process's to close."""

    def background(self) -> list[tuple[str, Background]]:
        return [("wake other processes", self.tell_others), ("prune topics", self.prune_now_and_then)]

    async def declare(self, channels: Sequence[Topic | Queue | Exchange], subscriptions: Sequence[Subscription]) -> None:
        for channel in channels:
            if isinstance(channel, Topic):
                self._retention[channel.name] = channel.retention
        async with self.database.work() as work:
            for subscription in subscriptions:
                match subscription.source:
                    case Topic(name=topic):
                        await work.execute("INSERT INTO cursor VALUES ($1, $2, 0) ON CONFLICT DO NOTHING", subscription.name, topic)
                    case Binding(exchange=exchange, patterns=patterns):
                        regexes = [routing_regex(pattern) for pattern in patterns]
                        await work.execute(
                            "DELETE FROM binding WHERE exchange = $1 AND subscription = $2 AND pattern <> ALL($3)",
                            exchange.name,
                            subscription.name,
                            regexes,
                        )
                        await work.execute(
                            "INSERT INTO binding SELECT $1, p, $2 FROM unnest($3::text[]) p ON CONFLICT DO NOTHING",
                            exchange.name,
                            subscription.name,
                            regexes,
                        )

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        columns = list(zip(*((m.kind, m.channel, m.route, m.key, m.id, m.body) for m in messages), strict=True))
        await self.database.fetch("SELECT publish($1, $2, $3, $4, $5, $6)", *(list(column) for column in columns))
        names = {m.channel for m in messages}
        for name in names:
            self._wake(name)
        self._to_tell |= names
        self._telling.set()

    async def tell_others(self) -> None:
        """Wake readers in other processes: a hint outside the publishing transaction, where a NOTIFY would serialise all commits."""
        while True:
            await self._telling.wait()
            self._telling.clear()
            names, self._to_tell = self._to_tell, set()
            with suppress(*CONNECTION_LOST, asyncpg.PostgresError):
                await self.leadership.notify("bus", ",".join(sorted(names)))
            await asyncio.sleep(TELL_SECONDS)

    def _heard(self, payload: str) -> None:
        """Names of channels with new messages; `!` before one whose messages were put back; nothing when notifications may have been lost."""
        for name in payload.split(",") if payload else (f"!{name}" for name in self._readers):
            if name.startswith("!"):
                for reader in self._readers.get(name[1:], ()):
                    reader.look()
            else:
                self._wake(name)

    def _wake(self, channel: str) -> None:
        self.moved.set()
        for reader in self._readers.get(channel, ()):
            reader.wake.set()

    def _poll(self) -> float:
        return self.leadership.patience(HEARD_POLL_SECONDS, POLL_SECONDS)

    async def consume(self, subscription: Subscription, process: Process) -> None:
        try:
            await self._consume(subscription, process)
        finally:  # this connection stays open as long as its process: others would wait for a reader that has left
            with suppress(*CONNECTION_LOST, asyncpg.PostgresError):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self.leadership.release(f"consume {subscription.name}")

    async def _consume(self, subscription: Subscription, process: Process) -> None:
        kind = TopicReader if isinstance(subscription.source, Topic) else QueueReader
        reader = kind(self.database, subscription, process, self._poll)
        self._readers.setdefault(subscription.channel, []).append(reader)
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            try:
                if self._stopping:
                    if reader.loaded:
                        await reader.finish()
                    return
                if not await self.leadership.hold(f"consume {subscription.name}"):
                    reader.loaded = False
                    await asyncio.sleep(POLL_SECONDS / 2)
                    continue
                if not reader.loaded:
                    await reader.load()
                reader.wake.clear()
                started = loop.time()
                handled = await reader.step()
                failures = 0
                if 0 < handled < subscription.batch and (rest := started + subscription.linger - loop.time()) > 0 and not self._stopping:
                    await asyncio.sleep(rest)
                if handled < subscription.batch and (not handled or self.leadership.hears) and not self._stopping:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(reader.patience(self.database.clock())):
                            await reader.wake.wait()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # nothing of the batch counts: it is read again
                if self._stopping:
                    return
                failures += 1
                reader.loaded = False
                level = log.warning if isinstance(error, CONNECTION_LOST) else log.error
                level("consumer waits", subscription=subscription.name, error=repr(error), exc_info=not isinstance(error, CONNECTION_LOST))
                await asyncio.sleep(backoff(failures))

    async def stop(self) -> None:
        self._stopping = True
        for channel in self._readers:
            self._wake(channel)

    async def lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        rows = await self.database.fetch(
            "SELECT s, (SELECT count(*) FROM delivery d WHERE d.subscription = s) + coalesce((SELECT count(*) FROM ("
            "SELECT 1 FROM cursor c JOIN topic_log l ON l.topic = c.topic AND l.position > c.position WHERE c.subscription = s LIMIT 100000) AS unread), 0)"
            " FROM unnest($1::text[]) AS s",
            [subscription.name for subscription in subscriptions],
        )
        return {row[0]: row[1] for row in rows}

    async def dead_letters(
        self, subscriptions: Sequence[Subscription], *, limit: int = 100, preview: int = LETTER_BYTES
    ) -> list[DeadLetter]:
        rows = await self.database.fetch(
            "SELECT id::text, subscription, channel, key, substr(body, 1, $3), reason, attempt, died_at, length(body) FROM dead_letter"
            " WHERE subscription = ANY($1) ORDER BY dead_letter.id LIMIT $2",
            [subscription.name for subscription in subscriptions],
            limit,
            preview,
        )
        return [DeadLetter(*row) for row in rows]

    async def redrive(self, letters: Sequence[DeadLetter]) -> int:
        rows = await self.database.fetch(
            "WITH gone AS (DELETE FROM dead_letter WHERE id = ANY($1) RETURNING id, subscription, channel, key, body)"
            " INSERT INTO delivery (subscription, channel, key, body, attempt, due_at)"
            # A topic's reader looks only at its waiting keys in this table, so a redriven message is a waiting one that is due at once.
            " SELECT subscription, channel, key, body, 1, now() FROM gone ORDER BY id RETURNING channel",
            [int(letter.id) for letter in letters],
        )
        put_back = ",".join({f"!{row[0]}" for row in rows})
        self._heard(put_back)
        await self.leadership.notify("bus", put_back)
        return len(rows)

    async def discard(self, letters: Sequence[DeadLetter]) -> int:
        rows = await self.database.fetch("DELETE FROM dead_letter WHERE id = ANY($1) RETURNING id", [int(letter.id) for letter in letters])
        return len(rows)

    async def tail(self, position: int | None, limit: int) -> list[asyncpg.Record]:
        """The newest of what was published on topics after a position (None: only where the log ends now): position, topic, key, body."""
        if position is None:
            return await self.database.fetch(
                "SELECT coalesce(max(position), 0) AS position, '' AS topic, '' AS key, ''::bytea AS body FROM topic_log"
            )
        rows = await self.database.fetch(
            "SELECT position, topic, key, body FROM topic_log WHERE position > $1 ORDER BY position DESC LIMIT $2", position, limit
        )
        return rows[::-1]

    async def prune_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            with suppress(*CONNECTION_LOST):
                await self.prune()

    async def prune(self) -> None:
        """Drop what a topic's retention no longer keeps and every group has read."""
        for topic, retention in self._retention.items():
            await self.database.fetch(
                "DELETE FROM topic_log WHERE position IN (SELECT position FROM topic_log WHERE topic = $1 AND published_at < $2"
                " AND position <= coalesce((SELECT min(position) FROM cursor WHERE topic = $1), 0) ORDER BY position LIMIT $3)",
                topic,
                self.database.clock() - retention,
                PRUNE_ROWS,
            )


def routing_regex(pattern: str) -> str:
    """The regular expression of an AMQP routing pattern: `*` is one word, `#` is any number of words."""
    words = {"*": r"[^.]+", "#": r".*"}
    return "^" + r"\.".join(words.get(word, re.escape(word)) for word in pattern.split(".")) + "$"
