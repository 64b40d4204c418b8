"""A PgBouncer by transaction in front of the embedded Postgres: each transaction has another of its sessions."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from caravan.runtime import Backends
from tests.support.backends import Unavailable
from tests.support.backends.pgbouncer import Bouncer, pgbouncer, program


@pytest.fixture
def needs_pgbouncer() -> None:
    try:
        program()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def bouncer(needs_pgbouncer: None, backends: Backends) -> Iterator[Bouncer]:
    with pgbouncer(backends.database_url) as started:
        yield started


@pytest.fixture
def pooled(backends: Backends, bouncer: Bouncer) -> Backends:
    return Backends(bouncer.url, backends.redis_url, backends.secret)


@pytest.fixture
async def postgres_session(backends: Backends) -> AsyncIterator[asyncpg.Connection]:
    """A session of our own, which sees what the sessions of the pooler do."""
    connection = await asyncpg.connect(backends.database_url)
    yield connection
    await connection.close()
