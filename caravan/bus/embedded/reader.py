"""Reads a topic or a queue of the embedded bus. What failed waits in the table `delivery` with its key: later messages of a waiting key line up behind it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from caravan.bus import Incoming, Outcome, Process, Result, Subscription
from caravan.bus.reader import note_death
from caravan.database import LAZILY, Database

POLL_SECONDS = 1.0
HEARD_POLL_SECONDS = 20.0
"""Of a reader that is told of every message."""
UNACKNOWLEDGED_SECONDS = 0.5
"""So long a finished batch waits at most for the next read, which acknowledges it: under load one statement does both."""


@dataclass
class _Reader:
    """What both kinds share: messages that wait for another attempt, in the order of their key."""

    database: Database
    subscription: Subscription
    process: Process
    poll: Callable[[], float] = lambda: POLL_SECONDS
    """Seconds between two looks that nobody asked for."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: dict[str, datetime] = field(default_factory=dict)
    loaded: bool = False
    _checked: datetime | None = None
    _done: list[int] = field(default_factory=list)

    _failed_rows = "due_at IS NOT NULL"

    def look(self) -> None:
        """Somebody may have put messages back, or nobody can tell: read again what waits."""
        self._checked = None
        self.wake.set()

    async def load(self) -> None:
        rows = await self.database.fetch(
            f"SELECT key, min(due_at) FROM delivery WHERE subscription = $1 AND {self._failed_rows} GROUP BY key", self.subscription.name
        )
        self.waiting = {row[0]: row[1] or self.database.clock() for row in rows}
        self._checked = self.database.clock()
        self.loaded = True

    def patience(self, now: datetime) -> float:
        """Seconds until something is due, at most a poll."""
        longest = min(self.poll(), UNACKNOWLEDGED_SECONDS) if self.unacknowledged else self.poll()
        if not self.waiting:
            return longest
        return min(longest, max(0.005, (min(self.waiting.values()) - now).total_seconds()))

    @property
    def unacknowledged(self) -> bool:
        """Whether the last batch is finished and the bus does not know it yet."""
        raise TypeError("a reader reads a topic or a queue")

    async def step(self) -> int:
        """Handle what is due again, then a batch of new messages. How many there were."""
        now = self.database.clock()
        if self._checked is None or now - self._checked > timedelta(seconds=self.poll()):
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
        note_death(self.subscription, key, attempt, reason)
        await work.execute(
            "INSERT INTO dead_letter (subscription, channel, key, body, attempt, reason) VALUES ($1, $2, $3, $4, $5, $6)",
            self.subscription.name,
            self.subscription.channel,
            key,
            body,
            attempt,
            reason[:2000],
        )


class QueueReader(_Reader):
    @property
    def unacknowledged(self) -> bool:
        return bool(self._done)

    async def finish(self) -> None:
        await self.database.fetch("DELETE FROM delivery WHERE id = ANY($1)", self._done)

    async def _fresh(self) -> int:
        # One round trip removes what the last batch finished and takes the next; both see the same snapshot, hence the exclusion.
        rows = await self.database.fetch(
            f"WITH gone AS (DELETE FROM delivery WHERE id = ANY($2) AND {LAZILY}) SELECT id, key, body, attempt FROM delivery"
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
            for row, outcome in zip(rows, outcomes, strict=True):
                if outcome.result is Result.HELD:  # it is next, also where the one before it was given up just now: nobody will tell of it
                    self.waiting.setdefault(row["key"], self.database.clock())
        return len(rows)


class TopicReader(_Reader):
    @property
    def unacknowledged(self) -> bool:
        return self._position != self._acked

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
        if self.unacknowledged:
            rows = await self.database.fetch(
                f"WITH moved AS (UPDATE cursor SET position = $3 WHERE subscription = $1 AND {LAZILY})"
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
                else:  # it is next, also where the one before it was given up just now
                    self.waiting.setdefault(row["key"], self.database.clock())
                await work.execute(
                    "INSERT INTO delivery (subscription, channel, key, body, attempt, due_at) VALUES ($1, $2, $3, $4, $5, $6)",
                    self.subscription.name,
                    self.subscription.channel,
                    row["key"],
                    row["body"],
                    attempt,
                    due,
                )
