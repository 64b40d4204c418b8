"""One embedded Postgres and Redis per test run (and per xdist worker), in a folder that goes away afterwards; each test module finds them empty."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from caravan import embedded, telemetry
from caravan.runtime import Backends

pytest_plugins = ["tests.backends.plugin"]

SECRET = "test-secret-test-secret-test-secret-0"


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Backends]:
    telemetry.configure_logs(os.environ.get("TEST_LOG_LEVEL", "error"), "text")
    folder = Path(tempfile.mkdtemp(prefix="caravan-test-"))
    try:
        async with embedded.start(folder, secret=SECRET, announce=lambda _: None) as started:
            yield Backends(started.database_url, started.redis_url, SECRET)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
async def backends(servers: Backends) -> Backends:
    """What another module left behind would be news to a new reader of a topic, so nothing is left."""
    admin = await asyncpg.connect(servers.database_url)
    for row in await admin.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'caravan%'"):
        await admin.execute(f'DROP DATABASE "{row[0]}" WITH (FORCE)')
    await admin.close()
    redis = Redis.from_url(servers.redis_url)
    await redis.flushall()
    await redis.aclose()
    return servers
