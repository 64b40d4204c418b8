"""Behind a PgBouncer by transaction, which gives each transaction another session of Postgres: who leads, what limits
hold, and what is refused at the start.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from caravan.clock import new_id
from caravan.database import CONNECTION_LOST, Database
from caravan.database.migrations import NotMigrated, provision_databases
from caravan.environment import SettingsError
from caravan.leadership import Leadership
from caravan.runtime import Backends, check_migrations, run_migrations
from services.registry import load_services
from tests.support.backends import Unavailable
from tests.support.backends.pgbouncer import Bouncer, pgbouncer, program
from tests.support.shop import wait_until

NAME = "kernel_pooled"


@pytest.fixture(autouse=True)
def needs_pgbouncer() -> None:
    try:
        program()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def bouncer(backends: Backends) -> Iterator[Bouncer]:
    with pgbouncer(backends.database_url) as started:
        yield started


@pytest.fixture
def pooled(backends: Backends, bouncer: Bouncer) -> Backends:
    return Backends(bouncer.url, backends.redis_url, backends.secret)


@pytest.fixture
async def url(pooled: Backends) -> str:
    await provision_databases(pooled.database_url, {NAME: pooled.get_password(NAME)})
    return pooled.get_database_url(NAME)


@pytest.fixture
async def server(backends: Backends) -> AsyncIterator[asyncpg.Connection]:
    """A session of our own, which sees what the sessions of the pooler do."""
    connection = await asyncpg.connect(backends.database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def rivals(url: str) -> AsyncIterator[list[Leadership]]:
    """As in two processes; each has other work besides, so that they meet in the pooler's sessions."""
    found = [Leadership(url, NAME) for _ in range(2)]
    yield found
    await asyncio.gather(*(one.close() for one in found))


async def locks(server: asyncpg.Connection) -> int:
    return int(
        await server.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 67 AND objsubid = 2"
        )
    )


async def leads(one: Leadership, task: str = "task") -> bool:
    """As a task that asks until it may, across what is lost."""
    try:
        return await one.try_lead(task)
    except (*CONNECTION_LOST, asyncpg.PostgresError):
        return False


async def ended(connection: asyncpg.Connection) -> bool:
    return connection.is_closed()


async def test_one_leads_whoever_gets_its_session(rivals: list[Leadership], server: asyncpg.Connection) -> None:
    first, second = rivals
    assert await first.try_lead("task")
    for _ in range(5):
        second._tried_at.clear()
        assert not await second.try_lead("task")
    assert await second.try_lead("another"), "each task has its own leader"
    assert not first.receives_notifications
    assert await first.try_lead("task")
    assert await locks(server) == 2


async def test_what_is_released_is_the_others_and_gives_the_session_back(
    rivals: list[Leadership], server: asyncpg.Connection
) -> None:
    first, second = rivals
    assert await first.try_lead("one")
    assert await first.try_lead("two")
    await first.release("one")
    assert await second.try_lead("one")
    assert not await leads(second, "two")
    await first.release("two")
    await second.release("one")
    assert await locks(server) == 0
    assert (
        await server.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND state LIKE 'idle in%'", f"caravan_{NAME}"
        )
        == 0
    )


async def test_another_leads_when_the_leader_is_gone(rivals: list[Leadership]) -> None:
    first, second = rivals
    assert await first.try_lead("task")
    assert first._connection is not None
    first._connection.terminate()  # as when its process is killed
    await wait_until(lambda: leads(second), seconds=5)
    assert not await leads(first)


async def test_another_leads_when_the_leaders_session_is_ended_and_the_leader_knows(
    rivals: list[Leadership], server: asyncpg.Connection
) -> None:
    first, second = rivals
    assert await first.try_lead("task")
    assert await server.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1 AND state LIKE 'idle in%'",
        f"caravan_{NAME}",
    )
    await wait_until(lambda: leads(second), seconds=5)
    first._tried_at.clear()
    assert not await leads(first)


async def test_nobody_leads_through_a_pooler_that_has_died(
    rivals: list[Leadership], bouncer: Bouncer, server: asyncpg.Connection
) -> None:
    first, _ = rivals
    assert await first.try_lead("task")
    bouncer.kill()

    async def freed() -> bool:
        return await locks(server) == 0

    await wait_until(freed)
    assert not await leads(first)


async def test_who_is_interrupted_while_it_asks_holds_nothing(
    rivals: list[Leadership], server: asyncpg.Connection
) -> None:
    first, second = rivals
    await first.try_lead("elsewhere")
    asking = asyncio.create_task(first.try_lead("task"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await wait_until(lambda: leads(second), seconds=5)
    assert not await leads(first)


async def test_a_lock_that_is_held_keeps_no_reader_of_events_and_no_vacuum_waiting(
    rivals: list[Leadership], server: asyncpg.Connection
) -> None:
    assert await rivals[0].try_lead("task")
    row = await server.fetchrow(
        "SELECT state, backend_xid, backend_xmin FROM pg_stat_activity WHERE datname = $1 AND state LIKE 'idle in%'",
        f"caravan_{NAME}",
    )
    assert row
    assert tuple(row) == ("idle in transaction", None, None)


async def test_a_lock_is_held_longer_than_a_transaction_may_be_idle(
    url: str, rivals: list[Leadership], server: asyncpg.Connection
) -> None:
    await server.execute(f"ALTER ROLE caravan_{NAME} SET idle_in_transaction_session_timeout = '200ms'")
    await server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", f"caravan_{NAME}"
    )  # settings of a session's begin
    other = await asyncpg.connect(url)
    try:
        await wait_until(lambda: leads(rivals[0]))
        await other.execute("BEGIN")
        await wait_until(lambda: ended(other))
        assert await locks(server) == 1
    finally:
        other.terminate()


async def test_limits_hold_for_every_session_of_a_role(url: str, backends: Backends) -> None:
    for way in (url, backends.get_database_url(NAME)):
        database = await Database.open(NAME, way)
        try:
            for limit, value in (("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "1min")):
                assert await database.fetchval("SELECT current_setting($1)", limit) == value, (way, limit)
        finally:
            await database.close()


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


async def test_a_pooler_that_mixes_up_statements_is_refused_with_what_to_set(backends: Backends) -> None:
    with pgbouncer(backends.database_url, max_prepared_statements="0") as old:
        with pytest.raises(SettingsError, match="max_prepared_statements"):
            await provision_databases(old.url, {NAME: backends.get_password(NAME)})
        await provision_databases(backends.database_url, {NAME: backends.get_password(NAME)})
        with pytest.raises(SettingsError, match="max_prepared_statements"):
            await Database.open(NAME, Backends(old.url, "", backends.secret).get_database_url(NAME))


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
    pooled: Backends, server: asyncpg.Connection
) -> None:
    services = load_services(["catalog"])
    with pytest.raises(NotMigrated, match="can't be opened"):
        await check_migrations(services, pooled)
    await asyncio.gather(run_migrations(services, pooled), run_migrations(services, pooled))
    await check_migrations(services, pooled)
    before = await server.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'caravan_catalog'")
    await run_migrations(services, pooled)
    assert before == await server.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'caravan_catalog'"), (
        "the pooler logs in with it"
    )
    changed = Backends(pooled.database_url, pooled.redis_url, str(new_id()) * 2)
    await run_migrations(services, changed)
    await check_migrations(services, changed)
    await run_migrations(services, pooled)
    assert await server.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_without_a_pooler_a_lock_is_one_statement(backends: Backends) -> None:
    await provision_databases(backends.database_url, {NAME: backends.get_password(NAME)})
    direct, asked = Leadership(backends.get_database_url(NAME), NAME), list[str]()
    try:
        await direct.try_lead("another")
        assert direct.receives_notifications
        assert direct._connection is not None
        direct._connection.add_query_logger(lambda query: asked.append(query.query))
        assert await direct.try_lead("task")
        assert await direct.try_lead("task")
        await direct.release("task")
        await asyncio.sleep(0)  # the driver tells its listeners in the loop's next turn
        assert [query.partition("(")[0] for query in asked] == [
            "SELECT WHERE pg_try_advisory_lock",
            "SELECT WHERE pg_advisory_unlock",
        ]
    finally:
        await direct.close()
