"""The laptop's Valkey in a folder that a Redis of an earlier Caravan has written."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from redis.asyncio import Redis

from caravan import embedded
from caravan.embedded import paths, valkey
from caravan.runtime import Backends
from tests.caravan.embedded.embedded_servers import SECRET, list_server_pids
from tests.support.job_shop import handled_data, run_demo
from tests.support.shop import wait_until

REDIS_6 = Path(__file__).with_name("data") / "redis-6.2.14.aof"
"""A job that waits, one that is delayed, and in the part that was appended last a key."""


@pytest.fixture
def former_folder(used_data: Path) -> Path:
    folder = used_data / "redis"
    folder.mkdir()
    shutil.copy(REDIS_6, folder / "appendonly.aof")
    (folder / "written-by").write_text("Redis 6.2.14")
    return used_data


async def test_jobs_that_redis_6_has_written_are_run(former_folder: Path) -> None:
    async with embedded.start(former_folder, secret=SECRET, announce=print) as servers:
        async with Redis.from_url(servers.redis_url) as client:
            assert await client.get("kept") == b"42"

        async def have_run() -> bool:
            return {"note": "before"} in handled_data and {"note": "after"} in handled_data

        async with run_demo(Backends(servers.database_url, servers.redis_url, SECRET)):
            await wait_until(have_run)
    assert (former_folder / "redis" / "written-by").read_text().startswith("Valkey 9.")


async def test_what_was_written_is_there_after_the_next_start(former_folder: Path) -> None:
    for value in (b"43", b"44"):
        async with (
            embedded.start(former_folder, secret=SECRET, announce=print) as servers,
            Redis.from_url(servers.redis_url) as client,
        ):
            assert await client.get("kept") == str(int(value) - 1).encode()
            await client.set("kept", value)
            await client.bgrewriteaof()


async def test_the_running_server_is_found_by_its_folder(used_data: Path) -> None:
    async with embedded.start(used_data, secret=SECRET, announce=print) as servers:
        server = valkey.find_running(paths.find_paths(used_data))
        assert server
        assert server.port == urlsplit(servers.redis_url).port
        assert Path(server.process.cwd()) == (used_data / "redis").resolve()
    assert not psutil.pid_exists(server.process.pid)
    assert valkey.find_running(paths.find_paths(used_data)) is None


async def test_a_folder_of_a_newer_server_is_refused_and_nothing_runs(used_data: Path) -> None:
    async with embedded.start(used_data, secret=SECRET, announce=print):
        pass
    (used_data / "redis" / "written-by").write_text("Valkey 99.0.0")
    with pytest.raises(embedded.StartError, match=r"written by Valkey 99\.0\.0, and here is only Valkey 9"):
        async with embedded.start(used_data, secret=SECRET, announce=print):
            pass
    assert list_server_pids(used_data) == []
