"""One embedded Postgres and Valkey per test run (and per xdist worker), in a folder that goes away afterwards; each
test module finds them empty.
"""

import asyncio
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from caravan import embedded, telemetry
from caravan.runtime import Backends
from tests.support.new_cluster import SECRET, place_cluster

pytest_plugins = [
    "tests.support.backends.plugin",
    "tests.support.embedded_bus",
    "tests.support.openapi",
    "tests.support.raw_server",
    "tests.support.certificates",
    "tests.fuzz.count",
]

# As in a process of the shop. Walking through all that a run has loaded, for every few hundred new objects, takes a
# quarter of the CPU of collecting the tests.
gc.set_threshold(20_000, 20, 20)

# A run starts hundreds of processes. Where the environment forbids byte code, each of them would compile all that it
# imports, which is 9 s of CPU for the services. Removed here, before the first worker starts.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Backends]:
    telemetry.configure_logs(os.environ.get("TEST_LOG_LEVEL", "error"), "text")
    folder = Path(tempfile.mkdtemp(prefix="caravan-test-"))
    try:
        await place_cluster(folder)
        async with embedded.start(folder, secret=SECRET, announce=lambda _: None) as started:
            await _stop_waiting_for_the_disk(started.database_url)
            yield Backends(started.database_url, started.redis_url, SECRET)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _stop_waiting_for_the_disk(database_url: str) -> None:
    """Only a crash of the machine could lose what the disk has not got yet, and this cluster would not outlive one. A
    DROP DATABASE, which begins with a checkpoint, otherwise takes about a second, and each module drops what it finds.
    """
    admin = await asyncpg.connect(database_url)
    try:
        await admin.execute("ALTER SYSTEM SET fsync = off")
        await admin.execute("ALTER SYSTEM SET full_page_writes = off")
        await admin.execute("SELECT pg_reload_conf()")
    finally:
        await admin.close()


@pytest.fixture(scope="module")
async def backends(servers: Backends) -> Backends:
    """What another module left behind would be news to a new reader of a topic, so nothing is left."""
    await clear_backends(servers)
    return servers


async def clear_backends(servers: Backends) -> None:
    admin = await asyncpg.connect(servers.database_url)
    for row in await admin.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'caravan%'"):
        await admin.execute(f'DROP DATABASE "{row[0]}" WITH (FORCE)')
    await admin.close()
    redis = Redis.from_url(servers.redis_url)
    await redis.flushall()
    await redis.aclose()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The loop of a test that does not end is idle, so its stack says nothing: show where each task waits."""
    report = yield
    if call.excinfo and "from pytest-timeout" in str(call.excinfo.value):
        tasks = [
            candidate for candidate in gc.get_objects() if isinstance(candidate, asyncio.Task) and not candidate.done()
        ]
        report.sections.append(
            (
                "what waits",
                "\n".join(line for task in tasks for line in (repr(task.get_name()), *_list_awaited(task.get_coro()))),
            )
        )
    return report


def _list_awaited(step: Any) -> Iterator[str]:
    """File and line of each coroutine, from the task's own to the innermost."""
    while step is not None:
        kind = "cr" if hasattr(step, "cr_frame") else "ag" if hasattr(step, "ag_frame") else "gi"
        if frame := getattr(step, f"{kind}_frame", None):
            yield f"  {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
        step = getattr(step, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
