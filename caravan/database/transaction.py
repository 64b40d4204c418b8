"""A transaction that begins with the first statement that needs one; `UnitOfWork` adds what is written at its end."""

from typing import Any

import asyncpg
from prometheus_client import Counter

from caravan import fault_flags
from caravan.database.connections import CONNECTION_LOST, ConnectionPool


class Transaction:
    """Takes a connection only when there is a statement to run, and counts the statements."""

    __slots__ = ("_connection", "_pool", "_statement_counter")

    def __init__(self, pool: ConnectionPool, statement_counter: Counter) -> None:
        self._pool = pool
        self._statement_counter = statement_counter
        self._connection: asyncpg.Connection | None = None

    async def _acquire_connection(self) -> asyncpg.Connection:
        if self._connection is None:
            await self._begin("BEGIN")
        self._statement_counter.inc()
        assert self._connection is not None
        return self._connection

    async def _begin(self, text: str) -> str:
        """Begin with this text, which has no parameters. Postgres' answer to it."""
        connection = await self._pool.acquire()
        self._statement_counter.inc()
        try:
            if fault_flags.active:
                await fault_flags.slow_down(fault_flags.DATABASE_SLOW, self._pool.name)
            status: str = await connection.execute(text)
        except asyncpg.PostgresError:  # it may have begun before it failed
            self._connection = connection
            await self._end_transaction(commit=False)
            raise
        except BaseException as error:
            self._pool.release(connection, error)
            raise
        self._connection = connection
        return status

    async def begin_with(self, statement: str) -> int:
        """Begin, and run a statement without parameters, in one round trip; the number of rows it touched. The caller
        writes its values into it, none of which may be foreign.
        """
        return parse_row_count(await self._begin(f"BEGIN; {statement}"))

    @property
    def has_begun(self) -> bool:
        return self._connection is not None

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await (await self._acquire_connection()).fetch(query, *arguments)
        return rows

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        row: asyncpg.Record | None = await (await self._acquire_connection()).fetchrow(query, *arguments)
        return row

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        return await (await self._acquire_connection()).fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> int:
        """Run a statement; the number of rows it touched."""
        return parse_row_count(await (await self._acquire_connection()).execute(query, *arguments))

    async def roll_back(self) -> None:
        """As if nothing had run yet."""
        await self._end_transaction(commit=False)

    async def _end_transaction(self, *, commit: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if commit:
                self._statement_counter.inc()
                if await connection.execute("COMMIT") != "COMMIT":
                    raise RuntimeError(
                        "a statement of this unit of work failed, so that Postgres has rolled all of it back"
                    )
            else:
                await connection.execute("ROLLBACK")
        except BaseException as error:
            self._pool.release(connection, error)
            if commit or not isinstance(error, CONNECTION_LOST):
                raise
        else:
            self._pool.release(connection)


def parse_row_count(status: str) -> int:
    """The number of rows in Postgres' answer to a statement, such as `UPDATE 3`."""
    row_count = status.rpartition(" ")[2]
    return int(row_count) if row_count.isdigit() else 0
