"""A session has the limits of its role; a pooler that mixes up statements is refused at the start."""

import asyncio

import asyncpg
import pytest

from caravan.clock import new_id
from caravan.database import PIN, Database, is_pooled
from caravan.database.migrations import NotMigrated, provision_databases
from caravan.environment import SettingsError
from caravan.leadership import Leadership
from caravan.runtime import Backends, check_migrations, run_migrations
from services.registry import load_services
from tests.support.backends.pgbouncer import pgbouncer

NAME = "kernel_pooled"


@pytest.fixture
async def url(pooled: Backends) -> str:
    await provision_databases(pooled.database_url, {NAME: pooled.get_password(NAME)})
    return pooled.get_database_url(NAME)


async def test_limits_hold_for_every_session_of_a_role(url: str, backends: Backends) -> None:
    for way in (url, backends.get_database_url(NAME)):
        database = await Database.open(NAME, way)
        try:
            for limit, value in (("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "1min")):
                assert await database.fetchval("SELECT current_setting($1)", limit) == value, (way, limit)
        finally:
            await database.close()


@pytest.mark.usefixtures("needs_pgbouncer")
async def test_statements_of_many_clients_meet_in_few_sessions(backends: Backends) -> None:
    with pgbouncer(backends.database_url, default_pool_size="3") as few:
        await provision_databases(few.url, {NAME: backends.get_password(NAME)})
        clients = [
            await Database.open(NAME, Backends(few.url, "", backends.secret).get_database_url(NAME), size=4)
            for _ in range(4)
        ]
        try:
            asked = [(client, number) for number in range(50) for client in clients]
            answers = await asyncio.gather(*(client.fetchval(f"SELECT $1::int + {n % 7}", n) for client, n in asked))
            assert answers == [n + n % 7 for _, n in asked]
        finally:
            await asyncio.gather(*(client.close() for client in clients))


@pytest.mark.usefixtures("needs_pgbouncer")
async def test_a_pooler_that_mixes_up_statements_is_refused_with_what_to_set(backends: Backends) -> None:
    with pgbouncer(backends.database_url, max_prepared_statements="0") as old:
        with pytest.raises(SettingsError, match="max_prepared_statements"):
            await provision_databases(old.url, {NAME: backends.get_password(NAME)})
        await provision_databases(backends.database_url, {NAME: backends.get_password(NAME)})
        with pytest.raises(SettingsError, match="max_prepared_statements"):
            await Database.open(NAME, Backends(old.url, "", backends.secret).get_database_url(NAME))


@pytest.mark.usefixtures("needs_pgbouncer")
async def test_a_pooler_by_session_is_taken_as_it_is(backends: Backends) -> None:
    with pgbouncer(backends.database_url, pool_mode="session") as by_session:
        await provision_databases(by_session.url, {NAME: backends.get_password(NAME)})
        url = Backends(by_session.url, "", backends.secret).get_database_url(NAME)
        database, leadership = await Database.open(NAME, url), Leadership(url, NAME)
        try:
            assert await database.fetchval("SELECT $1::int", 1) == 1
            assert await leadership.try_lead("task")
        finally:
            await database.close()
            await leadership.close()


async def test_databases_are_made_waited_for_and_made_again_through_it(
    pooled: Backends, postgres_session: asyncpg.Connection
) -> None:
    services = load_services(["catalog"])
    with pytest.raises(NotMigrated, match="can't be opened"):
        await check_migrations(services, pooled)
    await asyncio.gather(run_migrations(services, pooled), run_migrations(services, pooled))
    await check_migrations(services, pooled)
    before = await postgres_session.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'caravan_catalog'")
    await run_migrations(services, pooled)
    assert before == await postgres_session.fetchval(
        "SELECT rolpassword FROM pg_authid WHERE rolname = 'caravan_catalog'"
    ), "the pooler logs in with it"
    changed = Backends(pooled.database_url, pooled.redis_url, str(new_id()) * 2)
    await run_migrations(services, changed)
    await check_migrations(services, changed)
    await run_migrations(services, pooled)
    assert await postgres_session.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_a_pooler_is_known_by_the_process_that_it_names(url: str, postgres_session: asyncpg.Connection) -> None:
    assert not await is_pooled(postgres_session)
    connection = await asyncpg.connect(url)
    try:
        assert await is_pooled(connection)
    finally:
        await connection.close()


async def test_a_pinned_session_has_no_limits_until_its_transaction_ends(backends: Backends) -> None:
    await provision_databases(backends.database_url, {NAME: backends.get_password(NAME)})
    connection = await asyncpg.connect(backends.get_database_url(NAME))
    try:
        limits = "SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')"
        await connection.execute(PIN)
        assert [tuple(row) for row in await connection.fetch(limits)] == [("0", "0")]
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("CREATE TABLE written (id int)")
        await connection.execute("ROLLBACK")
        assert [tuple(row) for row in await connection.fetch(limits)] == [("5s", "1min")]
    finally:
        await connection.close()
