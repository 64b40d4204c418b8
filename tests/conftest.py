"""One embedded Postgres and Redis per test run (and per xdist worker), in a folder that goes away afterwards."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from caravan import embedded, telemetry
from caravan.runtime import Backends

SECRET = "test-secret-test-secret-test-secret-0"


@pytest.fixture(scope="session")
async def backends() -> AsyncIterator[Backends]:
    telemetry.configure_logs(os.environ.get("TEST_LOG_LEVEL", "error"), "text")
    folder = Path(tempfile.mkdtemp(prefix="caravan-test-"))
    try:
        async with embedded.start(folder, secret=SECRET, announce=lambda _: None) as servers:
            yield Backends(servers.database_url, servers.redis_url, SECRET)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
