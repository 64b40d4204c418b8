"""The durable bus of a laptop: topics, queues and exchanges as tables of one Postgres database.

A topic is a log with a cursor per group; a queue is rows that are deleted when they are done. What failed waits in `delivery` with its key: later messages
of a waiting key line up behind it. Each subscription has one active reader at a time (an advisory lock), so order needs no further locking.
"""

import asyncio
import re
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from caravan.bus import DeadLetter, Incoming, Outcome, Process, Result, Subscription
from caravan.database import CONNECTION_LOST, Database
from caravan.leadership import Leadership
from caravan.messages import Binding, Exchange, Outgoing, Queue, Topic
from caravan.telemetry import DEAD_LETTERS, log

POLL_SECONDS = 1.0
BACKOFF_SECONDS = (0.05, 0.2, 1.0, 3.0)
PRUNE_ROWS = 5_000
PRUNE_SECONDS = 60.0


class EmbeddedBus:
    def __init__(self, database: Database, leadership: Leadership) -> None:
        self.database = database
        self.leadership = leadership
        self._wakes: dict[str, list[asyncio.Event]] = {}
        self._to_tell: set[str] = set()
        self._telling = asyncio.Event()
        self._stopping = False
        self._retention: dict[str, timedelta] = {}

    async def start(self) -> None:
        await self.leadership.listen("bus", self._heard)

    async def close(self) -> None:
        """Its database is the process's to close."""

    def background(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        return [("wake other processes", self.tell_others()), ("prune topics", self.prune_now_and_then())]

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
            await asyncio.sleep(0.01)

    def _heard(self, payload: str) -> None:
        for name in payload.split(","):
            self._wake(name)

    def _wake(self, channel: str) -> None:
        for event in self._wakes.get(channel, ()):
            event.set()

    async def consume(self, subscription: Subscription, process: Process) -> None:
        kind = _TopicReader if isinstance(subscription.source, Topic) else _QueueReader
        reader = kind(self.database, subscription, process)
        self._wakes.setdefault(subscription.channel, []).append(reader.wake)
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
                if not handled and not self._stopping:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(reader.wake.wait(), reader.patience(self.database.clock()))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # nothing of the batch counts: it is read again
                if self._stopping:
                    return
                failures += 1
                reader.loaded = False
                level = log.warning if isinstance(error, CONNECTION_LOST) else log.error
                level("consumer waits", subscription=subscription.name, error=repr(error), exc_info=not isinstance(error, CONNECTION_LOST))
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1])

    async def stop(self) -> None:
        self._stopping = True
        for events in self._wakes.values():
            for event in events:
                event.set()

    async def lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        rows = await self.database.fetch(
            "SELECT s, (SELECT count(*) FROM delivery d WHERE d.subscription = s) + coalesce((SELECT count(*) FROM ("
            "SELECT 1 FROM cursor c JOIN topic_log l ON l.topic = c.topic AND l.position > c.position WHERE c.subscription = s LIMIT 100000) AS unread), 0)"
            " FROM unnest($1::text[]) AS s",
            [subscription.name for subscription in subscriptions],
        )
        return {row[0]: row[1] for row in rows}

    async def dead_letters(self, subscriptions: Sequence[Subscription], *, limit: int = 100) -> list[DeadLetter]:
        rows = await self.database.fetch(
            "SELECT id::text, subscription, channel, key, body, reason, attempt, died_at FROM dead_letter WHERE subscription = ANY($1) ORDER BY dead_letter.id LIMIT $2",
            [subscription.name for subscription in subscriptions],
            limit,
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
        await self.leadership.notify("bus", ",".join({row[0] for row in rows}))
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


@dataclass
class _Reader:
    """What both kinds share: messages that wait for another attempt, in the order of their key."""

    database: Database
    subscription: Subscription
    process: Process
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: dict[str, datetime] = field(default_factory=dict)
    loaded: bool = False
    _checked: datetime | None = None
    _done: list[int] = field(default_factory=list)

    _failed_rows = "due_at IS NOT NULL"

    async def load(self) -> None:
        rows = await self.database.fetch(
            f"SELECT key, min(due_at) FROM delivery WHERE subscription = $1 AND {self._failed_rows} GROUP BY key", self.subscription.name
        )
        self.waiting = {row[0]: row[1] or self.database.clock() for row in rows}
        self._checked = self.database.clock()
        self.loaded = True

    def patience(self, now: datetime) -> float:
        """Seconds until something is due, at most a poll."""
        if not self.waiting:
            return POLL_SECONDS
        return min(POLL_SECONDS, max(0.005, (min(self.waiting.values()) - now).total_seconds()))

    async def step(self) -> int:
        """Handle what is due again, then a batch of new messages. How many there were."""
        now = self.database.clock()
        if self._checked is None or now - self._checked > timedelta(seconds=POLL_SECONDS):
            await self.load()  # sees what an operator put back
        due = [key for key, moment in self.waiting.items() if moment <= now][: self.subscription.batch]
        if due:
            await self._again(due)
        return await self._fresh() + len(due)

    async def _fresh(self) -> int:
        raise TypeError("a reader reads a topic or a queue")

    async def finish(self) -> None:
        """Acknowledge what the last batch finished, which is otherwise done with the next read."""

    async def _again(self, keys: list[str]) -> None:
        rows = await self.database.fetch(
            "SELECT id, key, body, attempt FROM delivery WHERE subscription = $1 AND key = ANY($2) ORDER BY id LIMIT $3",
            self.subscription.name,
            keys,
            self.subscription.batch,
        )
        outcomes = await self.process([Incoming(row["key"], row["body"], row["attempt"], row["id"]) for row in rows]) if rows else []
        async with self.database.work() as work:
            await self._settle(work, rows, outcomes)
            left = await work.fetch(
                "SELECT key, min(due_at) FROM delivery WHERE subscription = $1 AND key = ANY($2) GROUP BY key", self.subscription.name, keys
            )
        for key in keys:
            self.waiting.pop(key, None)
        for row in left:
            self.waiting[row[0]] = row[1] or self.database.clock()

    async def _settle(self, work: Any, rows: Sequence[asyncpg.Record], outcomes: Sequence[Outcome]) -> None:
        """Write what came of rows of `delivery`."""
        done = [row["id"] for row, outcome in zip(rows, outcomes, strict=True) if outcome.result is Result.DONE]
        if done:
            await work.execute("DELETE FROM delivery WHERE id = ANY($1)", done)
        for row, outcome in zip(rows, outcomes, strict=True):
            match self._verdict(outcome, row["attempt"]):
                case Result.RETRY:
                    due = self.database.clock() + timedelta(seconds=self.subscription.retry.delays[row["attempt"] - 1])
                    await work.execute("UPDATE delivery SET attempt = attempt + 1, due_at = $2 WHERE id = $1", row["id"], due)
                    self.waiting[row["key"]] = due
                case Result.DEAD:
                    await work.execute("DELETE FROM delivery WHERE id = $1", row["id"])
                    await self._bury(work, row["key"], row["body"], row["attempt"], outcome.reason)

    def _verdict(self, outcome: Outcome, attempt: int) -> Result:
        if outcome.result is Result.RETRY and attempt >= self.subscription.retry.attempts:
            return Result.DEAD
        return outcome.result

    async def _bury(self, work: Any, key: str, body: bytes, attempt: int, reason: str) -> None:
        DEAD_LETTERS.labels(self.subscription.channel, self.subscription.service).inc()
        log.error("dead letter", subscription=self.subscription.name, key=key, attempt=attempt, reason=reason)
        await work.execute(
            "INSERT INTO dead_letter (subscription, channel, key, body, attempt, reason) VALUES ($1, $2, $3, $4, $5, $6)",
            self.subscription.name,
            self.subscription.channel,
            key,
            body,
            attempt,
            reason[:2000],
        )


class _QueueReader(_Reader):
    async def finish(self) -> None:
        await self.database.fetch("DELETE FROM delivery WHERE id = ANY($1)", self._done)

    async def _fresh(self) -> int:
        # One round trip removes what the last batch finished and takes the next; both see the same snapshot, hence the exclusion.
        rows = await self.database.fetch(
            "WITH gone AS (DELETE FROM delivery WHERE id = ANY($2)) SELECT id, key, body, attempt FROM delivery"
            " WHERE subscription = $1 AND id <> ALL($2) AND key <> ALL($3) ORDER BY id LIMIT $4",
            self.subscription.name,
            self._done,
            list(self.waiting),
            self.subscription.batch,
        )
        self._done = []
        if not rows:
            return 0
        outcomes = await self.process([Incoming(row["key"], row["body"], row["attempt"], row["id"]) for row in rows])
        if all(outcome.result is Result.DONE for outcome in outcomes):
            self._done = [row["id"] for row in rows]
        else:
            async with self.database.work() as work:
                await self._settle(work, rows, outcomes)
        return len(rows)


class _TopicReader(_Reader):
    async def finish(self) -> None:
        await self.database.fetch("UPDATE cursor SET position = $2 WHERE subscription = $1", self.subscription.name, self._position)

    _failed_rows = "TRUE"
    _position: int = 0
    _acked: int = 0

    async def load(self) -> None:
        fresh = not self.loaded
        await super().load()
        if fresh:  # another process may have read on meanwhile
            self._position = self._acked = await self.database.fetchval(
                "SELECT position FROM cursor WHERE subscription = $1", self.subscription.name
            )

    async def _fresh(self) -> int:
        name, topic = self.subscription.name, self.subscription.channel
        if self._position != self._acked:
            rows = await self.database.fetch(
                "WITH moved AS (UPDATE cursor SET position = $3 WHERE subscription = $1)"
                " SELECT position, key, body FROM topic_log WHERE topic = $2 AND position > $3 ORDER BY position LIMIT $4",
                name,
                topic,
                self._position,
                self.subscription.batch,
            )
            self._acked = self._position
        else:
            rows = await self.database.fetch(
                "SELECT position, key, body FROM topic_log WHERE topic = $1 AND position > $2 ORDER BY position LIMIT $3",
                topic,
                self._position,
                self.subscription.batch,
            )
        if not rows:
            return 0
        now = [row for row in rows if row["key"] not in self.waiting]
        outcomes = iter(await self.process([Incoming(row["key"], row["body"], 1) for row in now]) if now else [])
        unfinished = [(row, next(outcomes) if row["key"] not in self.waiting else Outcome(Result.HELD)) for row in rows]
        unfinished = [(row, outcome) for row, outcome in unfinished if outcome.result is not Result.DONE]
        if unfinished:
            async with self.database.work() as work:
                for row, outcome in unfinished:
                    await self._set_aside(work, row, outcome)
                await work.execute("UPDATE cursor SET position = $2 WHERE subscription = $1", name, rows[-1]["position"])
            self._acked = rows[-1]["position"]
        self._position = rows[-1]["position"]
        return len(rows)

    async def _set_aside(self, work: Any, row: asyncpg.Record, outcome: Outcome) -> None:
        match self._verdict(outcome, 1):
            case Result.DEAD:
                await self._bury(work, row["key"], row["body"], 1, outcome.reason)
            case result:
                attempt, due = 1, None
                if result is Result.RETRY:
                    attempt, due = 2, self.database.clock() + timedelta(seconds=self.subscription.retry.delays[0])
                    self.waiting[row["key"]] = due
                await work.execute(
                    "INSERT INTO delivery (subscription, channel, key, body, attempt, due_at) VALUES ($1, $2, $3, $4, $5, $6)",
                    self.subscription.name,
                    self.subscription.channel,
                    row["key"],
                    row["body"],
                    attempt,
                    due,
                )
