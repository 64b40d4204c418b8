"""A service's database: pool, reads, and the unit of work that commits state, events, outbox rows and the idempotency record together.

asyncpg and SQL text all the way: the statements are the design, and the hot path counts its round trips. A unit of work takes a connection only when a
statement needs one; what is collected (events, messages, the stored answer) is written by one statement at the end, which is the whole transaction when
nothing else ran.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import asyncpg

from caravan import telemetry
from caravan.clock import Clock, utc_now
from caravan.database.connections import ACQUIRE_SECONDS, CONNECTION_LOST, Connections
from caravan.database.sessions import LIMITS, PIN, check_pooler, is_pooled
from caravan.database.writes import ANSWERS_KEPT, Answer, EventRow, Grouped, Writes
from caravan.messages import Channel, Delivery, Event, Message, Outgoing, encode

__all__ = [
    "ANSWERS_KEPT",
    "CONNECTION_LOST",
    "INBOX_KEPT",
    "LAZILY",
    "LIMITS",
    "PIN",
    "Answer",
    "Database",
    "KeyAlreadyUsed",
    "UnitOfWork",
    "VersionConflict",
    "cause",
    "check_pooler",
    "is_pooled",
]

STATEMENT_SECONDS = 30.0
LAZILY = "set_config('synchronous_commit', 'off', true) IS NOT NULL"
"""In the WHERE of a change that may be lost with the machine, as everybody then does it again: its transaction does not wait for the disk."""
INBOX_KEPT = timedelta(days=14)
"""How long a handled message is known. Longer than a replayed topic's retention; what is kept longer (the audit log) is known by its own primary key."""

cause: ContextVar[Delivery[Any] | None] = ContextVar("cause", default=None)
"""The message that is being handled: what a handler emits names it and stays in its trace."""


class VersionConflict(Exception):
    """Somebody else appended to the stream first; load it again and decide anew."""


class KeyAlreadyUsed(Exception):
    """The idempotency key has its stored answer already; nothing of this unit of work was written."""


@dataclass(slots=True)
class Database:
    """One service's database. `outbox_written` is set after a commit that wrote outbox rows: the relay's wake-up.

    `worked_at` is when (monotonic) this process last answered a request or handled a message in it; sweepers rest when that is long ago.
    """

    service: str
    connections: Connections
    clock: Clock = utc_now
    outbox_written: asyncio.Event = field(default_factory=asyncio.Event)
    worked_at: float = field(default_factory=time.monotonic)
    _statements: Any = None
    grouped: Grouped = field(init=False)

    def __post_init__(self) -> None:
        self._statements = telemetry.STATEMENTS.labels(self.service)
        self.grouped = Grouped(self.write)

    async def write(self, writes: Writes) -> None:
        """Write what was collected, in a transaction of its own."""
        await self._ask(asyncpg.Connection.execute, *writes.statement(self.clock()))

    @classmethod
    async def open(cls, service: str, url: str, *, size: int = 5, clock: Clock = utc_now) -> Self:
        """Raises what connecting raises, and SettingsError for an unfit pooler: told at the start."""

        async def connect() -> asyncpg.Connection:
            return await asyncpg.connect(
                url,
                timeout=ACQUIRE_SECONDS,
                command_timeout=STATEMENT_SECONDS,
                server_settings={"application_name": f"caravan {service}"},
            )

        connections = Connections(connect, size)
        connection = await connections.take()
        try:
            await check_pooler(connection, connect)
        except BaseException:
            connection.terminate()
            raise
        finally:
            connections.give_back(connection)
        return cls(service, connections, clock)

    async def close(self) -> None:
        await self.connections.close()

    def work(self) -> "UnitOfWork":
        return UnitOfWork(self)

    async def forget(self) -> None:
        """Remove handled messages and stored answers whose time has come."""
        now = self.clock()
        await self.fetch("DELETE FROM inbox WHERE handled_at < $1", now - INBOX_KEPT)
        await self.fetch("DELETE FROM idempotency WHERE expires_at < $1", now)

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._ask(asyncpg.Connection.fetch, query, *arguments)
        return rows

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        row: asyncpg.Record | None = await self._ask(asyncpg.Connection.fetchrow, query, *arguments)
        return row

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        return await self._ask(asyncpg.Connection.fetchval, query, *arguments)

    async def _ask(self, way: Callable[..., Awaitable[Any]], query: str, *arguments: Any) -> Any:
        """One statement, which is a transaction of its own."""
        self._statements.inc()
        connection = await self.connections.take()
        try:
            answer = await way(connection, query, *arguments)
        except BaseException as error:
            self.connections.give_back(connection, error)
            raise
        self.connections.give_back(connection)
        return answer


class UnitOfWork:
    """`async with database.work() as work:` commits at the end of the block, or rolls all of it back when the block raises.

    No network call belongs inside. `emit` and `append` only collect; they are written with the commit.
    """

    __slots__ = ("_after", "_answer", "_claimed", "_connection", "_events", "_outbox", "database")

    def __init__(self, database: Database) -> None:
        self.database = database
        self._connection: asyncpg.Connection | None = None
        self._outbox: list[Outgoing] = []
        self._events: list[EventRow] = []
        self._answer: Answer | None = None
        self._claimed = False
        self._after: list[Callable[[], Awaitable[None] | None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            await self._commit()
        else:
            await self._release(commit=False)

    async def _take(self) -> asyncpg.Connection:
        if self._connection is None:
            connection = await self.database.connections.take()
            self.database._statements.inc()
            try:
                await connection.execute("BEGIN")
            except BaseException as error:
                self.database.connections.give_back(connection, error)
                raise
            self._connection = connection
        self.database._statements.inc()
        return self._connection

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await (await self._take()).fetch(query, *arguments)
        return rows

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        row: asyncpg.Record | None = await (await self._take()).fetchrow(query, *arguments)
        return row

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        return await (await self._take()).fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> int:
        """Run a statement; the number of rows it touched."""
        status = await (await self._take()).execute(query, *arguments)
        last = status.rpartition(" ")[2]
        return int(last) if last.isdigit() else 0

    async def claim(self, consumer: str, messages: Iterable[UUID]) -> set[UUID]:
        """The messages that this consumer has not handled yet; claiming and the effect commit together."""
        self._claimed = True
        rows = await self.fetch(
            "INSERT INTO inbox (consumer, message_id) SELECT $1, m FROM unnest($2::uuid[]) m ON CONFLICT DO NOTHING RETURNING message_id",
            consumer,
            list(messages),
        )
        return {row[0] for row in rows}

    def emit(
        self, channel: Channel, message: Message, *, key: UUID | str, due: Delivery[Any] | None = None, identifier: UUID | None = None
    ) -> None:
        """Send a message when, and only when, this unit of work commits. `due`: the message of a batch that caused it (default: the one being handled)."""
        origin = due or cause.get()
        self._outbox.append(
            encode(
                message,
                channel,
                key=str(key),
                source=self.database.service,
                time=self.database.clock(),
                traceparent=(origin.traceparent if origin else None) or telemetry.traceparent.get(),
                actor=origin.actor if origin else telemetry.actor.get(),
                cause=str(origin.id) if origin else None,
                identifier=identifier,
            )
        )

    def append(self, stream: UUID, expected: int, events: Sequence[Event], *, due: Delivery[Any] | None = None) -> None:
        """Append to an event stream that is at version `expected` (0: must not exist). VersionConflict at commit when it has moved."""
        origin = due or cause.get()
        trace = (origin.traceparent if origin else None) or telemetry.traceparent.get()
        who = origin.actor if origin else telemetry.actor.get()
        now = self.database.clock()
        for version, event in enumerate(events, expected + 1):
            kind = type(event)
            self._events.append(
                (stream, version, kind.type, kind.version, event.model_dump_json(), now, who, trace[3:35] if trace else None)
            )

    def answer(self, answer: Answer) -> None:
        """Store the answer of an idempotent request with the rest. KeyAlreadyUsed at commit when another request was first."""
        self._answer = answer

    def after_commit(self, action: Callable[[], Awaitable[None] | None]) -> None:
        self._after.append(action)

    async def _commit(self) -> None:
        try:
            written = await self._write()
        except asyncpg.UniqueViolationError as error:
            await self._release(commit=False)
            if error.constraint_name == "idempotency_pkey":
                raise KeyAlreadyUsed from None
            if error.constraint_name == "event_pkey":
                raise VersionConflict from None
            raise
        except BaseException:
            await self._release(commit=False)
            raise
        await self._release(commit=True)
        if written:
            self.database.outbox_written.set()
        if written or self._claimed or self._answer or self._events:
            self.database.worked_at = time.monotonic()
        for action in self._after:
            result = action()
            if result is not None:
                await result

    async def _write(self) -> bool:
        """Write what was collected: in this transaction, or, when no statement needed one, in a transaction shared with others of the same moment."""
        writes = Writes([self._answer] if self._answer else [], self._events, self._outbox)
        if writes:
            if self._connection is None:
                await self.database.grouped.commit(writes)
            else:
                self.database._statements.inc()
                await self._connection.execute(*writes.statement(self.database.clock()))
        return bool(self._outbox)

    async def _release(self, *, commit: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if commit:
                self.database._statements.inc()
                if await connection.execute("COMMIT") != "COMMIT":
                    raise RuntimeError("a statement of this unit of work failed, so that Postgres has rolled all of it back")
            else:
                await connection.execute("ROLLBACK")
        except BaseException as error:
            self.database.connections.give_back(connection, error)
            if commit or not isinstance(error, CONNECTION_LOST):
                raise
        else:
            self.database.connections.give_back(connection)
