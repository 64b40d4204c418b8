"""What units of work collect (stored answers, events, outbox rows), written by one statement; and commits in groups, where one statement serves many of them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from caravan.messages import Outgoing

ANSWERS_KEPT = timedelta(days=7)
"""How long an Idempotency-Key is known."""
GROUP = 100
"""Most units of work that one statement commits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The stored answer of an HTTP request with an Idempotency-Key."""

    scope: str
    key: str
    fingerprint: bytes
    status: int
    headers: dict[str, str]
    body: bytes
    keep: timedelta = ANSWERS_KEPT


_FEED_TRANSACTION = (
    "greatest(pg_current_xact_id(), (SELECT e.transaction FROM event e WHERE e.stream = given.id ORDER BY e.version DESC LIMIT 1))"
)
"""The transaction after which an event stands in the feed of the whole store. Its own, or that of the event before it in its stream when that one is younger: a
transaction has its number from its first write, and may append to a stream after one that began later. A number higher than one's own is safe for readers:
what they are handed is older than every transaction still running, this one too."""
EventRow = tuple[UUID, int, str, int, str, datetime, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Writes:
    """What units of work have collected: stored answers, events and outbox rows."""

    answers: list[Answer]
    events: list[EventRow]
    outbox: list[Outgoing]

    def __bool__(self) -> bool:
        return bool(self.answers or self.events or self.outbox)

    def statement(self, now: datetime) -> tuple[Any, ...]:
        """One statement that writes all of it, and its arguments."""
        tables: list[tuple[str, str, tuple[str, ...], list[tuple[Any, ...]]]] = []
        if self.answers:
            answers = [
                (a.scope, a.key, a.fingerprint, a.status, orjson.dumps(a.headers).decode(), a.body, now + a.keep) for a in self.answers
            ]
            columns = "idempotency (scope, key, fingerprint, status, headers, body, expires_at)"
            tables.append((columns, "*", ("text", "text", "bytea", "smallint", "json", "bytea", "timestamptz"), answers))
        if self.events:
            columns = "event (stream, version, type, data_version, data, time, actor, trace_id, transaction)"
            row = ("uuid", "int", "text", "int", "json", "timestamptz", "text", "text")
            tables.append((columns, f"given.*, {_FEED_TRANSACTION}", row, list(self.events)))
        if self.outbox:
            messages = [(m.id, m.kind, m.channel, m.route, m.key, m.body) for m in self.outbox]
            columns = "outbox (created_at, message_id, kind, channel, route, key, body)"
            # Not when the transaction began: how long the handler took is no lag of the relay.
            tables.append((columns, "clock_timestamp(), *", ("uuid", "text", "text", "text", "text", "bytea"), messages))
        parts: list[str] = []
        arguments: list[list[Any]] = []
        for columns, chosen, kinds, rows in tables:
            first = len(arguments) + 1
            arguments += [list(column) for column in zip(*rows, strict=True)]
            arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(kinds, first))
            parts.append(f"INSERT INTO {columns} SELECT {chosen} FROM unnest({arrays}) AS given (id)")
        ctes = ", ".join(f"w{number} AS ({part})" for number, part in enumerate(parts[:-1]))
        return (f"WITH {ctes} {parts[-1]}" if ctes else parts[-1], *arguments)


@dataclass(slots=True)
class Grouped:
    """Commits writes that need no transaction of their own. While one statement is under way the next ones gather, and are then committed by one statement:
    under load a commit serves many. Whoever breaks a unique key fails alone."""

    write: Callable[[Writes], Awaitable[None]]
    _gathering: list[tuple[Writes, asyncio.Future[None]]] = field(default_factory=list)
    _committing: asyncio.Task[None] | None = None

    async def commit(self, writes: Writes) -> None:
        """Returns when these writes are committed; raises what the database says to them."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gathering.append((writes, done))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_gathered())
        await done

    async def _commit_gathered(self) -> None:
        while self._gathering:
            group, self._gathering = self._gathering[:GROUP], self._gathering[GROUP:]
            try:
                await self.write(_merged([writes for writes, _ in group]))
            except asyncpg.PostgresError as error:
                if len(group) == 1:
                    _settle(group[0][1], error)
                    continue
                await asyncio.gather(*(self._commit_one(writes, done) for writes, done in group))
            except Exception as error:
                for _, done in group:
                    _settle(done, error)
            else:
                for _, done in group:
                    _settle(done, None)

    async def _commit_one(self, writes: Writes, done: asyncio.Future[None]) -> None:
        try:
            await self.write(writes)
        except Exception as error:
            _settle(done, error)
        else:
            _settle(done, None)


def _merged(group: list[Writes]) -> Writes:
    return Writes([a for w in group for a in w.answers], [e for w in group for e in w.events], [m for w in group for m in w.outbox])


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return  # whoever asked has gone; what was committed stays
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
