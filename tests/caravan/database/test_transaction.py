"""A transaction begins with its first statement, is seen by nobody before its end, and leaves its connection clean."""

from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

from caravan.database import CONNECTION_LOST, Database, UnitOfWork
from caravan.runtime import Backends
from tests.support.database import NOTE_TABLE, count_statements, open_kernel_database


@pytest.fixture(scope="module")
async def database(backends: Backends) -> AsyncIterator[Database]:
    """With a single connection, so that one that is not given back or not clean is noticed by the next to need it."""
    async with open_kernel_database(backends, "kernel_transaction", NOTE_TABLE, size=1) as opened:
        yield opened


@pytest.fixture(autouse=True)
async def no_notes(database: Database) -> None:
    await database.fetch("TRUNCATE note")


async def list_notes(database: Database) -> list[str]:
    return [row[0] for row in await database.fetch("SELECT text FROM note ORDER BY id")]


async def end_session(backends: Backends, uow: UnitOfWork) -> None:
    """As an operator of the server ends it, in the middle of a transaction."""
    session = await uow.fetchval("SELECT pg_backend_pid()")
    other = await asyncpg.connect(backends.database_url)
    await other.execute("SELECT pg_terminate_backend($1, 5000)", session)
    await other.close()


async def test_who_asks_nothing_takes_no_connection(database: Database) -> None:
    before = count_statements(database)
    connection = await database.pool.acquire()
    async with database.unit_of_work():
        pass
    database.pool.release(connection)
    assert count_statements(database) == before


async def test_its_begin_and_end_are_statements_too(database: Database) -> None:
    before = count_statements(database)
    async with database.unit_of_work() as uow:
        await uow.execute("INSERT INTO note (text) VALUES ('a')")
        assert await uow.fetchval("SELECT count(*) FROM note") == 1
    assert count_statements(database) - before == 4, "BEGIN, two, COMMIT"


async def test_it_sees_what_it_wrote_and_nobody_else_does_before_its_end(
    database: Database, backends: Backends
) -> None:
    other = await asyncpg.connect(backends.get_database_url("kernel_transaction"))
    async with database.unit_of_work() as uow:
        await uow.execute("INSERT INTO note (text) VALUES ('a')")
        row = await uow.fetchrow("SELECT text FROM note")
        assert row is not None
        assert row["text"] == "a"
        assert await uow.fetchrow("SELECT text FROM note WHERE text = 'b'") is None
        assert await other.fetch("SELECT FROM note") == []
    assert len(await other.fetch("SELECT FROM note")) == 1
    await other.close()


@pytest.mark.parametrize(
    ("statement", "touched"),
    [
        ("INSERT INTO note (text) VALUES ('b'), ('c')", 2),
        ("UPDATE note SET text = 'd' WHERE text = 'a'", 1),
        ("UPDATE note SET text = 'd' WHERE text = 'z'", 0),
        ("DELETE FROM note", 1),
        ("LOCK TABLE note", 0),
    ],
)
async def test_a_statement_says_how_many_rows_it_touched(database: Database, statement: str, touched: int) -> None:
    async with database.unit_of_work() as uow:
        await uow.execute("INSERT INTO note (text) VALUES ('a')")
        assert await uow.execute(statement) == touched


async def test_a_block_that_raises_leaves_nothing_and_a_clean_connection(database: Database) -> None:
    async def write_and_raise() -> None:
        async with database.unit_of_work() as uow:
            await uow.execute("INSERT INTO note (text) VALUES ('a')")
            raise LookupError("no")

    with pytest.raises(LookupError):
        await write_and_raise()
    assert await list_notes(database) == []
    connection = await database.pool.acquire()
    assert not connection.is_in_transaction()
    database.pool.release(connection)


async def test_what_the_server_has_rolled_back_is_not_taken_for_committed(database: Database) -> None:
    async def commit_after_a_failed_statement() -> None:
        async with database.unit_of_work() as uow:
            await uow.execute("INSERT INTO note (text) VALUES ('a')")
            with suppress(asyncpg.DivisionByZeroError):
                await uow.fetch("SELECT 1 / 0")

    with pytest.raises(RuntimeError, match="rolled all of it back"):
        await commit_after_a_failed_statement()
    assert await list_notes(database) == []


async def test_a_session_that_ends_before_the_commit_is_an_error_and_not_the_next_ones(
    database: Database, backends: Backends
) -> None:
    async def lose_the_session() -> None:
        async with database.unit_of_work() as uow:
            await uow.execute("INSERT INTO note (text) VALUES ('a')")
            await end_session(backends, uow)

    with pytest.raises(CONNECTION_LOST):
        await lose_the_session()
    assert await list_notes(database) == []


async def test_what_a_block_raises_is_not_hidden_by_the_loss_of_its_session(
    database: Database, backends: Backends
) -> None:
    async def lose_the_session_and_raise() -> None:
        async with database.unit_of_work() as uow:
            await uow.execute("INSERT INTO note (text) VALUES ('a')")
            await end_session(backends, uow)
            raise LookupError("no")

    with pytest.raises(LookupError):
        await lose_the_session_and_raise()
    assert await list_notes(database) == []
