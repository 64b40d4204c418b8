"""Reads a topic or a queue of the embedded bus: claims a batch, runs it, and records what came of each message.

A failed message waits in the table `delivery`, and later messages of its key wait behind it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from caravan.bus import BatchHandler, HandlingResult, IncomingMessage, Result, Subscription
from caravan.bus.embedded import statements
from caravan.bus.reader import record_dead_letter
from caravan.database import WITHOUT_SYNC_COMMIT, Database

POLL_SECONDS = 1.0
NOTIFIED_POLL_SECONDS = 20.0
"""Of a reader that is notified of every message."""
UNACKNOWLEDGED_SECONDS = 0.5
"""So long a finished batch waits at most for the next read, which acknowledges it: under load one statement does
both.
"""
HOT = ("acknowledge_batch", "_handle_new_messages")
"""Every message runs them, so that they stay text."""


@dataclass
class _Reader:
    """What both kinds share: messages that wait for another attempt, in the order of their key."""

    database: Database
    subscription: Subscription
    handler: BatchHandler
    choose_poll_seconds: Callable[[], float] = lambda: POLL_SECONDS
    """Seconds between two looks that nobody asked for."""
    wake_event: asyncio.Event = field(default_factory=asyncio.Event)
    due_at_by_key: dict[str, datetime] = field(default_factory=dict)
    is_loaded: bool = False
    _loaded_at: datetime | None = None
    _unacknowledged_ids: list[int] = field(default_factory=list)

    _waiting_condition = "due_at IS NOT NULL"

    def request_reload(self) -> None:
        """Somebody may have put messages back, or nobody can tell: read again what waits."""
        self._loaded_at = None
        self.wake_event.set()

    async def load_waiting_keys(self) -> None:
        rows = await self.database.fetch(
            f"SELECT key, min(due_at) FROM delivery WHERE subscription = $1 AND {self._waiting_condition} GROUP BY key",
            self.subscription.name,
        )
        self.due_at_by_key = {row[0]: row[1] or self.database.clock() for row in rows}
        self._loaded_at = self.database.clock()
        self.is_loaded = True

    def seconds_until_due(self, now: datetime) -> float:
        """Seconds until something is due, at most a poll."""
        longest_seconds = (
            min(self.choose_poll_seconds(), UNACKNOWLEDGED_SECONDS)
            if self.has_unacknowledged
            else self.choose_poll_seconds()
        )
        if not self.due_at_by_key:
            return longest_seconds
        return min(longest_seconds, max(0.005, (min(self.due_at_by_key.values()) - now).total_seconds()))

    @property
    def has_unacknowledged(self) -> bool:
        """Whether the last batch is finished and the bus does not know it yet."""
        raise TypeError("a reader reads a topic or a queue")

    async def handle_next_batch(self) -> int:
        """Handle what is due again, then a batch of new messages. How many there were."""
        now = self.database.clock()
        if self._loaded_at is None or now - self._loaded_at > timedelta(seconds=self.choose_poll_seconds()):
            await self.load_waiting_keys()  # sees what an operator put back
        due_keys = [key for key, moment in self.due_at_by_key.items() if moment <= now][: self.subscription.batch]
        if due_keys:
            await self._retry_keys(due_keys)
        return await self._handle_new_messages() + len(due_keys)

    async def _handle_new_messages(self) -> int:
        raise TypeError("a reader reads a topic or a queue")

    async def acknowledge_batch(self) -> None:
        """Acknowledge what the last batch finished, which is otherwise done with the next read."""

    async def _retry_keys(self, keys: list[str]) -> None:
        rows = await statements.LIST_WAITING.fetch_all(
            self.database, subscription=self.subscription.name, keys=keys, limit=self.subscription.batch
        )
        results = (
            await self.handler([IncomingMessage(row["key"], row["body"], row["attempt"], row["id"]) for row in rows])
            if rows
            else []
        )
        async with self.database.unit_of_work() as uow:
            await self._apply_results(uow, rows, results)
            remaining_rows = await uow.fetch(
                "SELECT key, min(due_at) FROM delivery WHERE subscription = $1 AND key = ANY($2) GROUP BY key",
                self.subscription.name,
                keys,
            )
        for key in keys:
            self.due_at_by_key.pop(key, None)
        for row in remaining_rows:
            self.due_at_by_key[row[0]] = row[1] or self.database.clock()

    async def _apply_results(
        self, uow: Any, rows: Sequence[asyncpg.Record | dict[str, Any]], results: Sequence[HandlingResult]
    ) -> None:
        """Write what came of rows of `delivery`."""
        done_ids = [row["id"] for row, outcome in zip(rows, results, strict=True) if outcome.result is Result.DONE]
        if done_ids:
            await statements.DELETE_DELIVERIES.execute(uow, ids=done_ids)
        for row, outcome in zip(rows, results, strict=True):
            match self._decide_result(outcome, row["attempt"]):
                case Result.RETRY:
                    due_at = self.database.clock() + timedelta(
                        seconds=self.subscription.retry.delays[row["attempt"] - 1]
                    )
                    await statements.POSTPONE_DELIVERY.execute(uow, id=row["id"], due_at=due_at)
                    self.due_at_by_key[row["key"]] = due_at
                case Result.DEAD:
                    await statements.DELETE_DELIVERIES.execute(uow, ids=[row["id"]])
                    await self._write_dead_letter(uow, row["key"], row["body"], row["attempt"], outcome.reason)

    def _decide_result(self, outcome: HandlingResult, attempt: int) -> Result:
        if outcome.result is Result.RETRY and attempt >= self.subscription.retry.max_attempts:
            return Result.DEAD
        return outcome.result

    async def _write_dead_letter(self, uow: Any, key: str, body: bytes, attempt: int, reason: str) -> None:
        record_dead_letter(self.subscription, key, attempt, reason)
        await statements.INSERT_DEAD_LETTER.execute(
            uow,
            subscription=self.subscription.name,
            channel=self.subscription.channel,
            key=key,
            body=body,
            attempt=attempt,
            reason=reason[:2000],
        )


class QueueReader(_Reader):
    @property
    def has_unacknowledged(self) -> bool:
        return bool(self._unacknowledged_ids)

    async def acknowledge_batch(self) -> None:
        await self.database.fetch("DELETE FROM delivery WHERE id = ANY($1)", self._unacknowledged_ids)

    async def _handle_new_messages(self) -> int:
        # One round trip removes what the last batch finished and takes the next; both see the same snapshot, hence the
        # exclusion.
        rows = await self.database.fetch(
            f"WITH gone AS (DELETE FROM delivery WHERE id = ANY($2) AND {WITHOUT_SYNC_COMMIT}) SELECT id, key, body, "
            "attempt FROM delivery"
            " WHERE subscription = $1 AND id <> ALL($2) AND key <> ALL($3) ORDER BY id LIMIT $4",
            self.subscription.name,
            self._unacknowledged_ids,
            list(self.due_at_by_key),
            self.subscription.batch,
        )
        self._unacknowledged_ids = []
        if not rows:
            return 0
        results = await self.handler(
            [IncomingMessage(row["key"], row["body"], row["attempt"], row["id"]) for row in rows]
        )
        if all(outcome.result is Result.DONE for outcome in results):
            self._unacknowledged_ids = [row["id"] for row in rows]
        else:
            async with self.database.unit_of_work() as uow:
                await self._apply_results(uow, rows, results)
            for row, outcome in zip(rows, results, strict=True):
                if (
                    outcome.result is Result.BLOCKED
                ):  # it is next, also where the one before it was given up just now: no notification will come for it
                    self.due_at_by_key.setdefault(row["key"], self.database.clock())
        return len(rows)


class TopicReader(_Reader):
    @property
    def has_unacknowledged(self) -> bool:
        return self._position != self._acked_position

    async def acknowledge_batch(self) -> None:
        await self.database.fetch(
            "UPDATE cursor SET position = $2 WHERE subscription = $1", self.subscription.name, self._position
        )

    _waiting_condition = "TRUE"
    _position: int = 0
    _acked_position: int = 0

    async def load_waiting_keys(self) -> None:
        is_first_load = not self.is_loaded
        await super().load_waiting_keys()
        if is_first_load:  # another process may have read on meanwhile
            self._position = self._acked_position = await self.database.fetchval(
                "SELECT position FROM cursor WHERE subscription = $1", self.subscription.name
            )

    async def _handle_new_messages(self) -> int:
        name, topic = self.subscription.name, self.subscription.channel
        if self.has_unacknowledged:
            rows = await self.database.fetch(
                f"WITH moved AS (UPDATE cursor SET position = $3 WHERE subscription = $1 AND {WITHOUT_SYNC_COMMIT})"
                " SELECT position, key, body FROM topic_log WHERE topic = $2 AND position > $3 ORDER BY position "
                "LIMIT $4",
                name,
                topic,
                self._position,
                self.subscription.batch,
            )
            self._acked_position = self._position
        else:
            rows = await self.database.fetch(
                "SELECT position, key, body FROM topic_log WHERE topic = $1 AND position > $2 ORDER BY position LIMIT "
                "$3",
                topic,
                self._position,
                self.subscription.batch,
            )
        if not rows:
            return 0
        ready_rows = [row for row in rows if row["key"] not in self.due_at_by_key]
        results = iter(
            await self.handler([IncomingMessage(row["key"], row["body"], 1) for row in ready_rows])
            if ready_rows
            else []
        )
        unfinished_rows = [
            (row, next(results) if row["key"] not in self.due_at_by_key else HandlingResult(Result.BLOCKED))
            for row in rows
        ]
        unfinished_rows = [(row, outcome) for row, outcome in unfinished_rows if outcome.result is not Result.DONE]
        if unfinished_rows:
            async with self.database.unit_of_work() as uow:
                for row, outcome in unfinished_rows:
                    await self._store_unfinished(uow, row, outcome)
                await uow.execute("UPDATE cursor SET position = $2 WHERE subscription = $1", name, rows[-1]["position"])
            self._acked_position = rows[-1]["position"]
        self._position = rows[-1]["position"]
        return len(rows)

    async def _store_unfinished(self, uow: Any, row: asyncpg.Record, outcome: HandlingResult) -> None:
        match self._decide_result(outcome, 1):
            case Result.DEAD:
                await self._write_dead_letter(uow, row["key"], row["body"], 1, outcome.reason)
            case result:
                attempt, due_at = 1, None
                if result is Result.RETRY:
                    attempt, due_at = 2, self.database.clock() + timedelta(seconds=self.subscription.retry.delays[0])
                    self.due_at_by_key[row["key"]] = due_at
                else:  # it is next, also where the one before it was given up just now
                    self.due_at_by_key.setdefault(row["key"], self.database.clock())
                await statements.INSERT_DELIVERY.execute(
                    uow,
                    subscription=self.subscription.name,
                    channel=self.subscription.channel,
                    key=row["key"],
                    body=row["body"],
                    attempt=attempt,
                    due_at=due_at,
                )
