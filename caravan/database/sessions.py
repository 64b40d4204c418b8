"""The settings of Postgres sessions, and the check of the pooler that may be between them and us.

A pooler by transaction, such as PgBouncer, gives each transaction of a connection another of the server's sessions.
Whatever belongs to a session is then nobody's or somebody else's: its settings, LISTEN, an advisory lock. So limits
belong to the role, and whoever holds a lock that outlasts a statement keeps a transaction open around it: the pooler
leaves that session to it, and ends the session when its client goes.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg

from caravan.environment import SettingsError

LIMITS = {"lock_timeout": "5s", "idle_in_transaction_session_timeout": "60s"}
"""What a role's sessions begin with. Not set by the connection: a pooler refuses what it can't carry from one session
to another.
"""
PIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;"
    " SELECT set_config('lock_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true),"
    " CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL"
    " THEN set_config('transaction_timeout', '0', true) END"
)
"""Begins a transaction that may stay open for as long as a process lives. Between its statements it has neither a
snapshot nor an id, so it keeps no row from being vacuumed, and no reader of events from going on."""


async def is_pooled(connection: asyncpg.Connection) -> bool:
    """Whether something between us and Postgres speaks for it: it tells another process id than Postgres does, so that
    it can pass on a cancel request.
    """
    return bool(connection.get_server_pid() != await connection.fetchval("SELECT pg_backend_pid()"))


async def check_pooler(connection: asyncpg.Connection, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
    """Raises SettingsError when prepared statements would meet sessions that don't know them, or that know another one
    by that name. `connect`: opens another connection.
    """
    try:
        session = await connection.fetchval("SELECT pg_backend_pid()")
        if session == connection.get_server_pid():
            return
        passed_on = "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name LIKE '\\_\\_asyncpg%')"
        unfit = await connection.fetchval(passed_on) and await _is_lent(session, connection, connect)
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
        unfit = True
    if unfit:
        raise SettingsError(
            "CARAVAN_DATABASE_URL leads to a pooler by transaction that doesn't keep prepared statements apart:"
            " set max_prepared_statements = 200 in PgBouncer 1.21 or newer, or name Postgres itself"
        )


async def _is_lent(
    session: int, connection: asyncpg.Connection, connect: Callable[[], Awaitable[asyncpg.Connection]]
) -> bool:
    """Whether the session of a connection that is between two transactions is used by another one too; a pooler by
    session never does that.
    """
    other = await connect()
    try:
        for _ in range(3):
            # The status says how many rows there were; an argument would need a prepared statement.
            for candidate in (connection, other):
                here = await candidate.execute(f"SELECT WHERE pg_backend_pid() = {session:d}") == "SELECT 1"
                if here != (candidate is connection):
                    return True
        return False
    finally:
        with suppress(Exception):
            await other.close(timeout=2)
