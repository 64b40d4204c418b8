"""Connections are bounded, lent in turn, sound when they are lent, and given back whatever happens."""

import asyncio
from abc import ABCMeta
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sized
from typing import Any

import asyncpg
import pytest

from caravan.database import CONNECTION_LOST, Database, connections
from caravan.database.migrations import provision_databases
from caravan.runtime import Backends
from tests.support.faults import switch_faults
from tests.support.shop import wait_until

NAME, SIZE = "kernel_connections", 2


@pytest.fixture
async def database(backends: Backends) -> AsyncIterator[Database]:
    await provision_databases(backends.database_url, {NAME: backends.get_password(NAME)})
    opened = await Database.open(NAME, backends.get_database_url(NAME), size=SIZE)
    yield opened
    await opened.close()


async def own(database: Database) -> int:
    return int(await database.fetchval("SELECT pg_backend_pid()"))


async def sessions(backends: Backends) -> int:
    other = await asyncpg.connect(backends.get_database_url(NAME))
    try:
        return int(
            await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", f"caravan {NAME}")
        )
    finally:
        await other.close()


async def test_many_at_once_share_a_bounded_number(database: Database, backends: Backends) -> None:
    assert len({await own(database) for _ in range(10)}) == 1, "what came back last goes first"
    found = await asyncio.gather(*(database.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.01)") for _ in range(20)))
    assert len(set(found)) == SIZE == await sessions(backends)


async def test_who_waits_too_long_is_refused_and_takes_nothing_along(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ACQUIRE_SECONDS", 0.05)
    held = [await database.pool.acquire() for _ in range(SIZE)]
    with pytest.raises(CONNECTION_LOST):
        await own(database)
    for connection in held:
        database.pool.release(connection)
    assert len(set(await asyncio.gather(*(own(database) for _ in range(20))))) <= SIZE


async def test_turns_are_kept_and_one_that_is_given_up_is_passed_on(database: Database) -> None:
    held = [await database.pool.acquire() for _ in range(SIZE)]
    order: list[int] = []

    async def ask(number: int) -> None:
        await own(database)
        order.append(number)

    waiting = [asyncio.create_task(ask(number)) for number in range(4)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # while it waits
    await asyncio.sleep(0)
    database.pool.release(held.pop())
    waiting[1].cancel()  # at the moment when its turn has come
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [2, 3]
    database.pool.release(held.pop())
    assert {type(each) for each in await asyncio.gather(*(own(database) for _ in range(9)))} == {int}


@pytest.mark.parametrize("how", ["fetch", "work"])
async def test_what_was_cut_off_is_ended_before_another_has_the_connection(database: Database, how: str) -> None:
    await database.fetch("CREATE TABLE IF NOT EXISTS note (text text)")
    await database.fetch("TRUNCATE note")

    async def slow() -> None:
        if how == "fetch":
            await database.fetch("INSERT INTO note SELECT 'cut off' FROM pg_sleep(30)")
        async with database.unit_of_work() as uow:
            await uow.execute("INSERT INTO note VALUES ('cut off')")
            await uow.fetch("SELECT pg_sleep(30)")

    for _ in range(3 * SIZE):
        cut = asyncio.create_task(slow())
        await wait_until(lambda: _asleep(database))
        cut.cancel()
        await asyncio.gather(cut, return_exceptions=True)
    for _ in range(2 * SIZE):
        async with database.unit_of_work() as uow:
            assert await uow.fetchval("SELECT count(*) FROM note") == 0


async def test_a_transaction_whose_begin_was_cut_off_is_nobody_elses(database: Database) -> None:
    cut = await database.pool.acquire()
    await cut.execute("BEGIN")
    database.pool.release(cut, asyncio.CancelledError())
    held = [await database.pool.acquire() for _ in range(SIZE)]
    assert cut in held
    assert not any(connection.is_in_transaction() for connection in held)
    for connection in held:
        database.pool.release(connection)


async def _asleep(database: Database) -> bool:
    return bool(
        await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event = 'PgSleep'",
            f"caravan {NAME}",
        )
    )


async def test_a_connection_that_the_server_ends_is_replaced(database: Database, backends: Backends) -> None:
    await asyncio.gather(*(database.fetchval("SELECT 1 FROM pg_sleep(0.01)") for _ in range(SIZE)))
    other = await asyncpg.connect(backends.get_database_url(NAME))
    await other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", f"caravan {NAME}"
    )
    await other.close()
    await wait_until(lambda: _answers(database))
    assert {type(each) for each in await asyncio.gather(*(own(database) for _ in range(9)))} == {int}


async def _answers(database: Database) -> bool:
    try:
        return bool(await own(database))
    except CONNECTION_LOST:
        return False


async def test_a_failed_statement_harms_nobody_else(database: Database) -> None:
    for _ in range(3 * SIZE):
        with pytest.raises(asyncpg.PostgresError):
            await database.fetch("SELECT 1 / 0")
        with pytest.raises(asyncpg.PostgresError):
            async with database.unit_of_work() as uow:
                await uow.fetch("SELECT 1 / 0")
    assert await own(database)


async def test_connections_that_nobody_uses_are_closed_but_one(
    database: Database, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNUSED_SECONDS", 0.2)
    await asyncio.gather(*(database.fetchval("SELECT 1 FROM pg_sleep(0.01)") for _ in range(SIZE)))
    await wait_until(lambda: _sessions_are(backends, 1))
    assert await own(database)


async def _sessions_are(backends: Backends, number: int) -> bool:
    return await sessions(backends) == number


async def test_closing_waits_for_what_is_lent_and_lends_no_more(database: Database, backends: Backends) -> None:
    last = asyncio.create_task(database.fetchval("SELECT 'done' FROM pg_sleep(0.2)"))
    await wait_until(lambda: _asleep(database))
    await database.close()
    assert last.done()
    assert await last == "done"
    with pytest.raises(CONNECTION_LOST):
        await own(database)
    await wait_until(lambda: _sessions_are(backends, 0))


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        set,
        frozenset,
        deque,
        lambda values: dict.fromkeys(values).keys(),
        lambda values: dict(enumerate(values)).values(),
    ],
)
async def test_an_array_may_be_any_collection_whose_elements_are_not_asked_what_they_are(
    database: Database, kind: Callable[[list[str]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[type] = []

    def note_check(cls: type, value: object) -> bool:
        asked.append(cls)
        return cls in {*type(value).__mro__}

    monkeypatch.setattr(ABCMeta, "__instancecheck__", note_check)
    assert await database.fetchval("SELECT array_agg(t ORDER BY t) FROM unnest($1::text[]) t", kind(["a", "b"])) == [
        "a",
        "b",
    ]
    assert not {Iterable, Sized} & {*asked}


async def test_a_fault_makes_one_database_unavailable(database: Database) -> None:
    with switch_faults(f"database-unavailable:{NAME}"), pytest.raises(CONNECTION_LOST):
        await database.fetchval("SELECT 1")
    with switch_faults("database-unavailable:another"):
        assert await database.fetchval("SELECT 1") == 1
