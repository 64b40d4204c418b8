"""The connection pool of one database: a connection is lent to one statement or unit of work at a time.

asyncpg's own pool costs more than a short statement does: each acquire makes a proxy, and each release a task, a timer
and a future. This one lends the connection itself, the one released last first, so that few are open while there is
little to do, and prepared statements are reused.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import asyncpg
from asyncpg.protocol import protocol
from prometheus_client import Histogram

from caravan import fault_flags
from caravan.tls import CertificateFiles, TlsError, explain_failure, get_url_context

# asyncpg asks of every element of every array argument whether it is an array itself, by `isinstance` of abstract
# classes: for the arrays of a batch that
# was a twentieth of what an order costs. Where these names are gone, the question costs again what it did, and nothing
# else changes.
for _name in ("IterableABC", "SizedABC"):
    setattr(protocol, _name, (list, tuple, set, frozenset, deque, type({}.keys()), type({}.values())))

ACQUIRE_SECONDS = 10.0
"""How long one waits for a connection."""
UNUSED_SECONDS = 120.0
"""After so long without use all but one are closed."""
_CLOSE_SECONDS = 5.0
CONNECTION_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,
    TimeoutError,
)
"""Errors of the infrastructure: wait and try again, without counting it against a message. A demoted primary (25006) is
one of them; the client calls a connection that broke in the middle of an answer an internal error of its own.
"""
_CLOSED_MESSAGE = "the connections of this database are closed"


async def open_connection(url: str, **options: Any) -> asyncpg.Connection:
    """A connection as the URL says, by TLS where it says so. Raises what asyncpg raises, and TlsError."""
    # asyncpg reads `sslrootcert` itself, but knows no CAs of the system.
    context = get_url_context(url)
    try:
        return await asyncpg.connect(url, ssl=context, **options)
    except ssl.SSLError as error:
        raise TlsError(explain_failure(error, "CARAVAN_DATABASE_URL", CertificateFiles.from_url(url))) from error


class ConnectionPool:
    """At most `size` at a time, opened as they are needed; who finds none waits its turn, at most ACQUIRE_SECONDS."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        size: int,
        waits: Histogram | None = None,
        name: str = "",
    ) -> None:
        """`waits` observes how long each waited who found no connection free. `name`: of the database."""
        self.name = name
        self._connect = connect
        self._size = size
        self._waits = waits
        self._used_slots = 0
        """Places of the `size` that somebody has, holding a connection, opening or mending one."""
        self._idle: list[tuple[asyncpg.Connection, float]] = []
        """With the loop's time of their return; the newest are at the end."""
        self._waiters: deque[asyncio.Future[asyncpg.Connection | None]] = deque()
        self._lent: set[asyncpg.Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._all_returned = asyncio.Event()

    def count_connections(self) -> tuple[int, int, int]:
        """Used, idle, and the most that there may be."""
        return self._used_slots, len(self._idle), self._size

    async def acquire(self) -> asyncpg.Connection:
        """A connection, to be given back whatever happens."""
        if fault_flags.active:
            fault_flags.fail(fault_flags.DATABASE_UNAVAILABLE, self.name)
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                self._used_slots += 1
                self._lent.add(connection)
                return connection
        if self._closed:
            raise asyncpg.InterfaceError(_CLOSED_MESSAGE)
        if self._used_slots < self._size:
            self._used_slots += 1
            return await self._open_connection()
        return await self._wait_turn() or await self._open_connection()

    def release(self, connection: asyncpg.Connection, error: BaseException | None = None) -> None:
        """`error`: what the use of it ended with. What the server has not answered to its end is waited for before
        somebody else gets the connection.
        """
        if error is None or isinstance(error, asyncpg.PostgresError) or connection.is_closed():
            self._free_slot(connection)
        else:
            self._spawn_task(self._reset_connection(connection))

    async def close(self) -> None:
        """Let none be taken any more, and wait until those that are lent have come back; for a bounded time."""
        self._closed = True
        if self._idle_timer:
            self._idle_timer.cancel()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(asyncpg.InterfaceError(_CLOSED_MESSAGE))
        while self._idle:
            self._spawn_task(_close_connection(self._idle.pop()[0]))
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                if self._used_slots:
                    await self._all_returned.wait()
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            for connection in self._lent:
                connection.terminate()

    async def _wait_turn(self) -> asyncpg.Connection | None:
        """Wait for a place: with a connection, or to open one."""
        waiter: asyncio.Future[asyncpg.Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        started_at = time.perf_counter()
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._free_slot(waiter.result())  # it came at the same moment
            raise
        finally:
            if self._waits is not None:
                self._waits.observe(time.perf_counter() - started_at)

    async def _open_connection(self) -> asyncpg.Connection:
        try:
            connection = await self._connect()
        except BaseException:
            self._free_slot(None)
            raise
        self._lent.add(connection)
        return connection

    def _free_slot(self, connection: asyncpg.Connection | None) -> None:
        """A place has become free, with a connection or without: the next one has it, in the order in which they
        came.
        """
        self._used_slots -= 1
        if connection is not None:
            self._lent.discard(connection)
            connection = None if connection.is_closed() else connection
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._used_slots += 1
                if connection is not None:
                    self._lent.add(connection)
                waiter.set_result(connection)
                return
        if self._closed:
            if connection is not None:
                self._spawn_task(_close_connection(connection))
            if not self._used_slots:
                self._all_returned.set()
        elif connection is not None:
            loop = asyncio.get_running_loop()
            self._idle.append((connection, loop.time()))
            if self._idle_timer is None and len(self._idle) > 1:
                self._idle_timer = loop.call_later(UNUSED_SECONDS, self._close_idle)

    async def _reset_connection(self, connection: asyncpg.Connection) -> None:
        """Wait until it has ended what it was asked and could not finish; one that does not is closed."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                with suppress(asyncpg.PostgresError):
                    await connection.execute("SELECT")
                if connection.is_in_transaction():
                    await connection.execute("ROLLBACK")
        except (*CONNECTION_LOST, asyncpg.PostgresError):
            connection.terminate()
        finally:
            self._free_slot(connection)

    def _close_idle(self) -> None:
        """Close those that nobody has used for long, but one."""
        self._idle_timer = None
        loop = asyncio.get_running_loop()
        while len(self._idle) > 1 and self._idle[0][1] <= loop.time() - UNUSED_SECONDS:
            self._spawn_task(_close_connection(self._idle.pop(0)[0]))
        if len(self._idle) > 1:
            self._idle_timer = loop.call_at(self._idle[0][1] + UNUSED_SECONDS, self._close_idle)

    def _spawn_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _close_connection(connection: asyncpg.Connection) -> None:
    with suppress(*CONNECTION_LOST, asyncpg.PostgresError):
        await connection.close(timeout=_CLOSE_SECONDS)
