"""What units of work collect (stored responses, events, outbox rows), written by one statement; and group commit, where
one statement serves many units of work.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from caravan.messages import OutgoingMessage

RESPONSE_RETENTION = timedelta(days=7)
"""How long an Idempotency-Key is known."""
_MAX_GROUP_SIZE = 100
"""Most units of work that one statement commits."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The stored answer of an HTTP request with an Idempotency-Key."""

    scope: str
    key: str
    fingerprint: bytes
    status: int
    headers: dict[str, str]
    body: bytes
    retention: timedelta = RESPONSE_RETENTION


_FEED_TRANSACTION = (
    "greatest(pg_current_xact_id(), (SELECT e.transaction FROM event e WHERE e.stream = given.id ORDER BY e.version "
    "DESC LIMIT 1))"
)
"""The transaction after which an event stands in the feed of the whole store. Its own, or that of the event before it
in its stream when that one is younger: a transaction has its number from its first write, and may append to a stream
after one that began later. A number higher than one's own is safe for readers: what they are handed is older than every
transaction still running, this one too.
"""
EventRow = tuple[UUID, int, str, int, str, datetime, str | None, str | None]


@dataclass(frozen=True, slots=True)
class PendingWrites:
    """What units of work have collected: stored answers, events and outbox rows."""

    responses: list[StoredResponse]
    events: list[EventRow]
    outbox: list[OutgoingMessage]

    def __bool__(self) -> bool:
        return bool(self.responses or self.events or self.outbox)

    def build_statement(self, now: datetime) -> tuple[Any, ...]:
        """One statement that writes all of it, and its arguments."""
        tables: list[tuple[str, str, tuple[str, ...], list[tuple[Any, ...]]]] = []
        if self.responses:
            response_rows = [
                (a.scope, a.key, a.fingerprint, a.status, orjson.dumps(a.headers).decode(), a.body, now + a.retention)
                for a in self.responses
            ]
            columns = "idempotency (scope, key, fingerprint, status, headers, body, expires_at)"
            tables.append(
                (columns, "*", ("text", "text", "bytea", "smallint", "json", "bytea", "timestamptz"), response_rows)
            )
        if self.events:
            columns = "event (stream, version, type, data_version, data, time, actor, trace_id, transaction)"
            event_types = ("uuid", "int", "text", "int", "json", "timestamptz", "text", "text")
            tables.append((columns, f"given.*, {_FEED_TRANSACTION}", event_types, list(self.events)))
        if self.outbox:
            message_rows = [(m.id, m.channel_type, m.channel, m.routing_key, m.key, m.body) for m in self.outbox]
            columns = "outbox (created_at, message_id, kind, channel, route, key, body)"
            # Not when the transaction began: how long the handler took is no lag of the relay.
            tables.append(
                (columns, "clock_timestamp(), *", ("uuid", "text", "text", "text", "text", "bytea"), message_rows)
            )
        inserts: list[str] = []
        arguments: list[list[Any]] = []
        for columns, selection, column_types, rows in tables:
            first = len(arguments) + 1
            arguments += [list(column) for column in zip(*rows, strict=True)]
            arrays = ", ".join(f"${number}::{column_type}[]" for number, column_type in enumerate(column_types, first))
            inserts.append(f"INSERT INTO {columns} SELECT {selection} FROM unnest({arrays}) AS given (id)")
        ctes = ", ".join(f"w{number} AS ({insert})" for number, insert in enumerate(inserts[:-1]))
        return (f"WITH {ctes} {inserts[-1]}" if ctes else inserts[-1], *arguments)


@dataclass(slots=True)
class GroupCommit:
    """Commits writes that need no transaction of their own. While one statement is under way the next ones gather, and
    are then committed by one statement: under load a commit serves many. Whoever breaks a unique key fails alone.
    """

    write: Callable[[PendingWrites], Awaitable[None]]
    _queue: list[tuple[PendingWrites, asyncio.Future[None]]] = field(default_factory=list)
    _commit_task: asyncio.Task[None] | None = None

    async def commit(self, pending: PendingWrites) -> None:
        """Returns when these writes are committed; raises what the database says to them."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((pending, done))
        if self._commit_task is None or self._commit_task.done():
            self._commit_task = asyncio.create_task(self._commit_groups())
        await done

    async def _commit_groups(self) -> None:
        while self._queue:
            group, self._queue = self._queue[:_MAX_GROUP_SIZE], self._queue[_MAX_GROUP_SIZE:]
            try:
                await self.write(_merge_writes([writes for writes, _ in group]))
            except asyncpg.PostgresError as error:
                if len(group) == 1:
                    _settle_future(group[0][1], error)
                    continue
                await asyncio.gather(*(self._commit_one(writes, done) for writes, done in group))
            except Exception as error:
                for _, done in group:
                    _settle_future(done, error)
            else:
                for _, done in group:
                    _settle_future(done, None)

    async def _commit_one(self, pending: PendingWrites, done: asyncio.Future[None]) -> None:
        try:
            await self.write(pending)
        except Exception as error:
            _settle_future(done, error)
        else:
            _settle_future(done, None)


def _merge_writes(group: list[PendingWrites]) -> PendingWrites:
    return PendingWrites(
        [a for w in group for a in w.responses],
        [e for w in group for e in w.events],
        [m for w in group for m in w.outbox],
    )


def _settle_future(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return  # whoever asked has gone; what was committed stays
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
