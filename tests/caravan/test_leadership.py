"""One process leads a task, and another when that one is gone; notifications reach the others, and a lost connection
wakes who listens. Behind a pooler only the first holds.
"""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from caravan.database import CONNECTION_LOST
from caravan.database.migrations import provision_databases
from caravan.leadership import Leadership
from caravan.runtime import Backends
from tests.support.backends.pgbouncer import Bouncer
from tests.support.shop import wait_until

NAME = "kernel_leaders"


@pytest.fixture
async def url(pooled: Backends) -> str:
    await provision_databases(pooled.database_url, {NAME: pooled.get_password(NAME)})
    return pooled.get_database_url(NAME)


@pytest.fixture
async def rivals(url: str) -> AsyncIterator[list[Leadership]]:
    """As in two processes; each has other work besides, so that they meet in the pooler's sessions."""
    found = [Leadership(url, NAME) for _ in range(2)]
    yield found
    await asyncio.gather(*(one.close() for one in found))


@pytest.fixture
async def direct_rivals(backends: Backends) -> AsyncIterator[list[Leadership]]:
    """Without a pooler."""
    await provision_databases(backends.database_url, {NAME: backends.get_password(NAME)})
    found = [Leadership(backends.get_database_url(NAME), NAME) for _ in range(2)]
    yield found
    await asyncio.gather(*(one.close() for one in found))


async def locks(postgres_session: asyncpg.Connection) -> int:
    return int(
        await postgres_session.fetchval(
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


async def test_one_of_two_leads_until_it_releases_or_closes(direct_rivals: list[Leadership]) -> None:
    first, second = direct_rivals
    assert await first.try_lead("task")
    assert await first.try_lead("task")
    assert not await second.try_lead("task")
    assert await second.try_lead("another"), "each task has its own leader"
    await first.release("task")
    await wait_until(lambda: leads(second), seconds=5)
    await second.close()
    await wait_until(lambda: leads(first), seconds=5)


async def test_who_does_not_lead_asks_the_server_at_most_twice_a_second(direct_rivals: list[Leadership]) -> None:
    first, second = direct_rivals
    assert await first.try_lead("task")
    assert not await second.try_lead("task")
    asked = list[str]()
    assert second._connection is not None
    second._connection.add_query_logger(lambda query: asked.append(query.query))
    started_at = asyncio.get_running_loop().time()
    for _ in range(100):
        assert not await second.try_lead("task")
    await asyncio.sleep(0)  # the driver tells its listeners in the loop's next turn
    assert len(asked) <= 2 * (asyncio.get_running_loop().time() - started_at) + 1


async def test_who_lost_its_session_leads_no_more(
    direct_rivals: list[Leadership], postgres_session: asyncpg.Connection
) -> None:
    first, second = direct_rivals
    assert await first.try_lead("task")
    await end_sessions(postgres_session)
    await wait_until(lambda: leads(second), seconds=5)
    assert not await leads(first)


async def end_sessions(postgres_session: asyncpg.Connection) -> None:
    await postgres_session.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", f"caravan_{NAME}"
    )


async def test_a_notification_reaches_the_others_also_after_their_connection_was_lost(
    direct_rivals: list[Leadership], postgres_session: asyncpg.Connection
) -> None:
    first, second = direct_rivals
    heard = asyncio.Queue[tuple[str, str]]()
    await first.listen("news", lambda payload: heard.put_nowait(("first", payload)))
    await second.listen("news", lambda payload: heard.put_nowait(("second", payload)))
    await second.listen("else", lambda payload: heard.put_nowait(("else", payload)))
    await first.notify("news", "a")
    async with asyncio.timeout(10):
        assert await heard.get() == ("second", "a"), "who sent it knows it"
        await end_sessions(postgres_session)
        assert sorted([await heard.get() for _ in range(3)]) == [("else", ""), ("first", ""), ("second", "")]
        assert not first.receives_notifications
        assert first.choose_poll_seconds(5.0, 0.5) == 0.5
        await second.try_lead("task")  # whatever it is asked next, it connects again and listens
        await first.notify("news", "b")
        assert await heard.get() == ("second", "b")
    assert first.choose_poll_seconds(5.0, 0.5) == 5.0
    assert heard.empty()


async def test_behind_a_pooler_nobody_notifies_and_all_poll(rivals: list[Leadership]) -> None:
    first, second = rivals
    heard = list[str]()
    await first.listen("news", heard.append)
    await second.notify("news", "a")
    assert first.choose_poll_seconds(5.0, 0.5) == second.choose_poll_seconds(5.0, 0.5) == 0.5


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


async def test_one_leads_whoever_gets_its_session(
    rivals: list[Leadership], postgres_session: asyncpg.Connection
) -> None:
    first, second = rivals
    assert await first.try_lead("task")
    for _ in range(5):
        second._tried_at.clear()
        assert not await second.try_lead("task")
    assert await second.try_lead("another"), "each task has its own leader"
    assert not first.receives_notifications
    assert await first.try_lead("task")
    assert await locks(postgres_session) == 2


async def test_what_is_released_is_the_others_and_gives_the_session_back(
    rivals: list[Leadership], postgres_session: asyncpg.Connection
) -> None:
    first, second = rivals
    assert await first.try_lead("one")
    assert await first.try_lead("two")
    await first.release("one")
    assert await second.try_lead("one")
    assert not await leads(second, "two")
    await first.release("two")
    await second.release("one")
    assert await locks(postgres_session) == 0
    assert (
        await postgres_session.fetchval(
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
    rivals: list[Leadership], postgres_session: asyncpg.Connection
) -> None:
    first, second = rivals
    assert await first.try_lead("task")
    assert await postgres_session.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1 AND state LIKE 'idle in%'",
        f"caravan_{NAME}",
    )
    await wait_until(lambda: leads(second), seconds=5)
    first._tried_at.clear()
    assert not await leads(first)


async def test_nobody_leads_through_a_pooler_that_has_died(
    rivals: list[Leadership], bouncer: Bouncer, postgres_session: asyncpg.Connection
) -> None:
    first, _ = rivals
    assert await first.try_lead("task")
    bouncer.kill()

    async def freed() -> bool:
        return await locks(postgres_session) == 0

    async def knows() -> bool:  # the end of its connection may come a moment later than Postgres hears of it
        return not await leads(first)

    await wait_until(freed)
    await wait_until(knows)


async def test_who_is_interrupted_while_it_asks_holds_nothing(
    rivals: list[Leadership], postgres_session: asyncpg.Connection
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
    rivals: list[Leadership], postgres_session: asyncpg.Connection
) -> None:
    assert await rivals[0].try_lead("task")
    row = await postgres_session.fetchrow(
        "SELECT state, backend_xid, backend_xmin FROM pg_stat_activity WHERE datname = $1 AND state LIKE 'idle in%'",
        f"caravan_{NAME}",
    )
    assert row
    assert tuple(row) == ("idle in transaction", None, None)


async def test_a_lock_is_held_longer_than_a_transaction_may_be_idle(
    url: str, rivals: list[Leadership], postgres_session: asyncpg.Connection
) -> None:
    await postgres_session.execute(f"ALTER ROLE caravan_{NAME} SET idle_in_transaction_session_timeout = '200ms'")
    await postgres_session.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", f"caravan_{NAME}"
    )  # settings of a session's begin
    other = await asyncpg.connect(url)
    try:
        await wait_until(lambda: leads(rivals[0]))
        await other.execute("BEGIN")
        await wait_until(lambda: ended(other))
        assert await locks(postgres_session) == 1
    finally:
        other.terminate()
