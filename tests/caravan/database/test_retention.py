"""Handled messages and stored answers go when their time has come, in short statements that find them by an index."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from caravan.clock import utc_now
from caravan.database import INBOX_RETENTION, Database, retention
from caravan.runtime import Backends
from tests.support.database import open_kernel_database

_COUNT_READ = """
    SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'idempotency'
"""


@pytest.fixture(name="database", scope="module")
async def open_database(backends: Backends) -> AsyncIterator[Database]:
    async with open_kernel_database(backends, "retention_test") as database:
        yield database


async def insert_rows(database: Database, count: int, age: timedelta) -> None:
    """Messages that were handled so long ago, and answers that have been out of date for so long."""
    await database.execute(
        "INSERT INTO inbox (message_id, consumer, handled_at) SELECT gen_random_uuid(), 'test', $2::timestamptz"
        " FROM generate_series(1, $1::int)",
        count,
        utc_now() - age,
    )
    await database.execute(
        "INSERT INTO idempotency (scope, key, fingerprint, status, headers, body, expires_at)"
        " SELECT 'test', gen_random_uuid()::text, '', 200, '{}', '', $2::timestamptz FROM generate_series(1, $1::int)",
        count,
        utc_now() - age,
    )


async def count_rows(database: Database) -> tuple[int, int]:
    row = await database.fetchrow("SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM idempotency)")
    assert row is not None
    return row[0], row[1]


async def test_only_what_has_expired_goes_however_much_it_is(database: Database) -> None:
    await database.execute("TRUNCATE inbox, idempotency")
    await insert_rows(database, 2 * retention._PURGE_ROWS + 3, INBOX_RETENTION + timedelta(minutes=1))
    await insert_rows(database, 4, timedelta(minutes=-1))
    await database.purge_expired()
    assert await count_rows(database) == (4, 4)


async def test_answers_that_are_kept_are_not_read_for_those_that_have_expired(database: Database) -> None:
    await database.execute("TRUNCATE inbox, idempotency")
    await insert_rows(database, 5000, timedelta(minutes=-1))
    await database.execute("ANALYZE idempotency")
    async with database.unit_of_work() as uow:
        before = await uow.fetchval(_COUNT_READ)
        await retention.purge_expired(uow, utc_now())
        assert await uow.fetchval(_COUNT_READ) - before < 100
