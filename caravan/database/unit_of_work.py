"""A service's database, and the unit of work that commits all that belongs together.

asyncpg runs every statement: the hot path counts its round trips. What a unit of work collects (events, messages,
the stored response) is written by one statement at the end, which is the whole transaction when nothing else ran.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import asyncpg
from prometheus_client import Counter

from caravan import telemetry
from caravan.clock import Clock, utc_now
from caravan.database.claims import insert_claims
from caravan.database.connections import ACQUIRE_SECONDS, ConnectionPool, open_connection
from caravan.database.pending_writes import EventRow, GroupCommit, PendingWrites, StoredResponse
from caravan.database.retention import purge_expired
from caravan.database.sessions import check_pooler
from caravan.database.transaction import Transaction, parse_row_count
from caravan.messages import Channel, Delivery, Event, Message, OutgoingMessage, encode_message
from caravan.telemetry import metrics
from caravan.telemetry.database_spans import CommitObserver

_STATEMENT_SECONDS = 30.0
WITHOUT_SYNC_COMMIT = "set_config('synchronous_commit', 'off', true) IS NOT NULL"
"""In the WHERE of a change that may be lost with the machine, as everybody then does it again: its transaction does not
wait for the disk.
"""

current_message: ContextVar[Delivery[Any] | None] = ContextVar("cause", default=None)
"""The message that is being handled: what a handler emits names it and stays in its trace."""


class VersionConflict(Exception):
    """Somebody else appended to the stream first; load it again and decide anew."""


class DuplicateRequest(Exception):
    """The idempotency key has its stored answer already; nothing of this unit of work was written."""


@dataclass(slots=True)
class Database:
    """One service's database. `outbox_written` is set after a commit that wrote outbox rows: the relay's wake-up.

    `last_active_at` is when (monotonic) this process last answered a request or handled a message in it; sweepers rest
    when that is long ago.
    """

    service: str
    pool: ConnectionPool
    clock: Clock = utc_now
    outbox_written: asyncio.Event = field(default_factory=asyncio.Event)
    last_active_at: float = field(default_factory=time.monotonic)
    statement_counter: Counter = field(init=False)
    group_commit: GroupCommit = field(init=False)

    def __post_init__(self) -> None:
        self.statement_counter = metrics.STATEMENTS.labels(self.service)
        self.group_commit = GroupCommit(self.write_pending)

    async def write_pending(self, pending: PendingWrites) -> None:
        """Write what was collected, in a transaction of its own."""
        await self._run_statement(asyncpg.Connection.execute, *pending.build_statement(self.clock()))

    @classmethod
    async def open(cls, service: str, url: str, *, size: int = 5, clock: Clock = utc_now) -> Self:
        """Raises what connecting raises, and SettingsError for a pooler that can't be used."""

        async def open_one() -> asyncpg.Connection:
            return await open_connection(
                url,
                timeout=ACQUIRE_SECONDS,
                command_timeout=_STATEMENT_SECONDS,
                server_settings={"application_name": f"caravan {service}"},
            )

        pool = ConnectionPool(open_one, size, metrics.POOL_WAIT.labels(service), service)
        connection = await pool.acquire()
        try:
            await check_pooler(connection, open_one)
        except BaseException:
            connection.terminate()
            raise
        finally:
            pool.release(connection)
        return cls(service, pool, clock)

    async def close(self) -> None:
        await self.pool.close()

    def unit_of_work(self) -> "UnitOfWork":
        return UnitOfWork(self)

    async def purge_expired(self) -> None:
        """Remove handled messages and stored answers whose time has come."""
        await purge_expired(self, self.clock())

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._run_statement(asyncpg.Connection.fetch, query, *arguments)
        return rows

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        row: asyncpg.Record | None = await self._run_statement(asyncpg.Connection.fetchrow, query, *arguments)
        return row

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        return await self._run_statement(asyncpg.Connection.fetchval, query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> int:
        """Run a statement; the number of rows it touched."""
        return parse_row_count(await self._run_statement(asyncpg.Connection.execute, query, *arguments))

    async def _run_statement(self, method: Callable[..., Awaitable[Any]], query: str, *arguments: Any) -> Any:
        """One statement, which is a transaction of its own."""
        self.statement_counter.inc()
        connection = await self.pool.acquire()
        try:
            result = await method(connection, query, *arguments)
        except BaseException as error:
            self.pool.release(connection, error)
            raise
        self.pool.release(connection)
        return result


class UnitOfWork(Transaction):
    """`async with database.unit_of_work() as uow:` commits at the end of the block, or rolls all of it back when the
    block raises.

    No network call belongs inside. `emit` and `append` only collect; they are written with the commit.
    """

    __slots__ = (
        "_after_commit_actions",
        "_events",
        "_has_claimed",
        "_outbox",
        "_stored_response",
        "database",
    )

    def __init__(self, database: Database) -> None:
        super().__init__(database.pool, database.statement_counter)
        self.database = database
        self._outbox: list[OutgoingMessage] = []
        self._events: list[EventRow] = []
        self._stored_response: StoredResponse | None = None
        self._has_claimed = False
        self._after_commit_actions: list[Callable[[], Awaitable[None] | None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error_type is None and telemetry.is_recording():
            await self._commit_observed()
        elif error_type is None:
            await self._commit()
        else:
            await self._end_transaction(commit=False)

    async def claim_messages(
        self, consumer: str, deliveries: Sequence[Delivery[Any]], *, has_types: bool = False
    ) -> list[Delivery[Any]]:
        """Those that this consumer has not handled yet, in their order, and of a message that is there twice the first;
        claiming and the effect commit together. `has_types`: the consumer reads several types, so that its name does
        not say which one a message is.
        """
        self._has_claimed = True
        return await insert_claims(self, consumer, deliveries, has_types=has_types)

    def emit(
        self,
        channel: Channel,
        message: Message,
        *,
        key: UUID | str,
        caused_by: Delivery[Any] | None = None,
        message_id: UUID | None = None,
    ) -> None:
        """Send a message when, and only when, this unit of work commits. `caused_by`: the message of a batch that
        caused it (default: the one being handled).
        """
        cause = caused_by or current_message.get()
        carried = telemetry.choose_traceparent(cause.traceparent if cause else None)
        self._outbox.append(
            encode_message(
                message,
                channel,
                key=str(key),
                source=self.database.service,
                time=self.database.clock(),
                traceparent=carried,
                tracestate=telemetry.choose_tracestate(carried),
                actor=cause.actor if cause else telemetry.actor.get(),
                causation_id=str(cause.id) if cause else None,
                message_id=message_id,
            )
        )

    def append(
        self, stream: UUID, expected_version: int, events: Sequence[Event], *, caused_by: Delivery[Any] | None = None
    ) -> None:
        """Append to an event stream that is at `expected_version` (0: must not exist). VersionConflict at commit when
        it has moved.
        """
        cause = caused_by or current_message.get()
        trace_id = telemetry.parse_trace_id(cause.traceparent if cause else None) or telemetry.get_trace_id()
        actor = cause.actor if cause else telemetry.actor.get()
        now = self.database.clock()
        for version, event in enumerate(events, expected_version + 1):
            event_type = type(event)
            self._events.append(
                (
                    stream,
                    version,
                    event_type.type,
                    event_type.version,
                    event.model_dump_json(),
                    now,
                    actor,
                    trace_id,
                )
            )

    def store_response(self, response: StoredResponse) -> None:
        """Store the response of an idempotent request with the rest. DuplicateRequest at commit when another was
        first.
        """
        self._stored_response = response

    def run_after_commit(self, action: Callable[[], Awaitable[None] | None]) -> None:
        self._after_commit_actions.append(action)

    async def _commit_observed(self) -> None:
        is_empty = self._connection is None and not (self._outbox or self._events or self._stored_response)
        with nullcontext() if is_empty or self._has_claimed else CommitObserver(self.database.service):
            await self._commit()

    async def _commit(self) -> None:
        try:
            has_messages = await self._write_pending()
        except asyncpg.UniqueViolationError as error:
            await self._end_transaction(commit=False)
            if error.constraint_name == "idempotency_pkey":
                raise DuplicateRequest from None
            if error.constraint_name == "event_pkey":
                raise VersionConflict from None
            raise
        except BaseException:
            await self._end_transaction(commit=False)
            raise
        await self._end_transaction(commit=True)
        if has_messages:
            self.database.outbox_written.set()
        if has_messages or self._has_claimed or self._stored_response or self._events:
            self.database.last_active_at = time.monotonic()
        for action in self._after_commit_actions:
            result = action()
            if result is not None:
                await result

    async def _write_pending(self) -> bool:
        """Write what was collected: in this transaction, or, when no statement needed one, in a transaction shared with
        others of the same moment.
        """
        pending = PendingWrites([self._stored_response] if self._stored_response else [], self._events, self._outbox)
        if pending:
            if self._connection is None:
                await self.database.group_commit.commit(pending)
            else:
                self._statement_counter.inc()
                await self._connection.execute(*pending.build_statement(self.database.clock()))
        return bool(self._outbox)
