"""The laptop's Postgres and Valkey against what laptops do to programs: kill them, start them twice, take their
ports.
"""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from caravan import embedded
from caravan.embedded import AlreadyRunning, ServerUrls
from tests.caravan.embedded.embedded_servers import (
    AS_ROOT,
    SECRET,
    ignore_announcement,
    list_server_pids,
    read_rows,
    write_rows,
)


@pytest.fixture
def killed(used_data: Path) -> Path:
    """A folder with something written, whose program was killed."""
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("lock_owner.py"), used_data], stdout=subprocess.PIPE
    ) as lock_owner:
        assert lock_owner.stdout
        assert lock_owner.stdout.readline() == b"ready\n"
        backends = embedded.find_running(used_data)
        assert backends
        asyncio.run(write_rows(backends))
        lock_owner.kill()
    return used_data


async def test_a_killed_program_s_servers_are_taken_over_with_their_data(killed: Path) -> None:
    before = list_server_pids(killed)
    async with embedded.start(killed, secret=SECRET, announce=ignore_announcement) as backends:
        assert await read_rows(backends) == (42, b"42")
        assert list_server_pids(killed) == before
        assert len(before) == 2
    assert list_server_pids(killed) == []


async def test_nothing_is_lost_when_the_servers_are_killed_too(killed: Path) -> None:
    for pid in list_server_pids(killed):
        os.kill(pid, signal.SIGKILL)
    async with embedded.start(killed, secret=SECRET, announce=ignore_announcement) as backends:
        assert await read_rows(backends) == (42, b"42")


async def test_a_changed_secret_replaces_the_servers_and_keeps_the_data(killed: Path) -> None:
    before = list_server_pids(killed)
    async with embedded.start(
        killed, secret="another secret, also of more than 32 characters", announce=ignore_announcement
    ) as backends:
        assert await read_rows(backends) == (42, b"42")
        assert not set(before) & set(list_server_pids(killed))


def start_user(data: Path) -> subprocess.Popen[bytes]:
    """A process that uses the folder."""
    return subprocess.Popen([sys.executable, Path(__file__).with_name("lock_owner.py"), data], stdout=subprocess.PIPE)


def is_ready(user: subprocess.Popen[bytes]) -> bool:
    assert user.stdout
    return user.stdout.readline() == b"ready\n"  # or the end of its output, when it fails


def stop_user(user: subprocess.Popen[bytes], how: signal.Signals = signal.SIGINT) -> None:
    user.send_signal(how)
    user.wait(60)
    assert user.stdout
    user.stdout.close()


async def test_of_processes_started_at_once_all_get_going_and_the_last_stops_the_servers(data: Path) -> None:
    users = [start_user(data) for _ in range(3)]
    try:
        assert [is_ready(user) for user in users] == [True] * 3
        backends = embedded.find_running(data)
        assert backends
        assert sorted(embedded.find_users(data)) == sorted(user.pid for user in users)
        await write_rows(backends)
        before = list_server_pids(data)
        stop_user(users[0])
        assert list_server_pids(data) == before
        assert await read_rows(backends) == (42, b"42")
        stop_user(users[1], signal.SIGKILL)
        assert list_server_pids(data) == before
        assert await read_rows(backends) == (42, b"42")
        assert embedded.find_users(data) == [users[2].pid]
        async with embedded.start(data, secret=SECRET, announce=ignore_announcement) as joined:
            assert joined == backends
            stop_user(users[2])
            assert list_server_pids(data) == before
            assert await read_rows(backends) == (42, b"42")
    finally:
        for user in users:
            stop_user(user, signal.SIGKILL)
    assert list_server_pids(data) == []
    assert embedded.find_running(data) is None


async def test_one_joins_while_another_leaves(used_data: Path) -> None:
    for _ in range(3):
        first = start_user(used_data)
        assert is_ready(first)
        first.send_signal(signal.SIGINT)
        second = start_user(used_data)
        try:
            assert is_ready(second)
            assert len(list_server_pids(used_data)) == 2
            stop_user(first)
            backends = embedded.find_running(used_data)
            assert backends
            async with Redis.from_url(backends.redis_url) as client:
                assert await client.ping()
        finally:
            stop_user(second)
        assert list_server_pids(used_data) == []


async def test_what_dies_is_started_again_once_for_all_who_use_it(used_data: Path) -> None:
    other = start_user(used_data)
    try:
        assert is_ready(other)
        async with embedded.start(used_data, secret=SECRET, announce=ignore_announcement) as backends:
            await write_rows(backends)
            os.kill(list_server_pids(used_data)[0], signal.SIGKILL)
            deadline = time.monotonic() + 20
            while True:
                try:
                    assert await read_rows(backends) == (42, b"42")
                    break
                except (OSError, asyncpg.PostgresError, RedisError):
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
        assert await read_rows(backends) == (42, b"42")
    finally:
        stop_user(other)
    assert list_server_pids(used_data) == []


async def test_another_secret_does_not_take_the_servers_from_those_who_use_them(
    shared: tuple[Path, ServerUrls],
) -> None:
    folder, _ = shared
    before = list_server_pids(folder)
    with pytest.raises(
        AlreadyRunning, match=rf"{folder} is in use by process {os.getpid()} with another secret.*CARAVAN_DATA"
    ):
        async with embedded.start(
            folder, secret="another secret, also of more than 32 characters", announce=ignore_announcement
        ):
            pass
    assert list_server_pids(folder) == before


async def test_running_tells_only_while_a_program_holds_the_folder(used_data: Path) -> None:
    assert embedded.find_running(used_data) is None
    async with embedded.start(used_data, secret=SECRET, announce=ignore_announcement) as backends:
        assert embedded.find_running(used_data) == backends
        urls_file = used_data / "backends.json"
        assert stat.S_IMODE(urls_file.stat().st_mode) == 0o600
        kept = urls_file.read_text()
    urls_file.write_text(kept)  # as a killed program would leave it
    assert embedded.find_running(used_data) is None


async def test_two_folders_run_side_by_side(shared: tuple[Path, ServerUrls], used_data: Path) -> None:
    _, first = shared
    async with embedded.start(used_data, secret=SECRET, announce=ignore_announcement) as second:
        await write_rows(second)
        assert await read_rows(second) == (42, b"42")
        connection = await asyncpg.connect(first.database_url)
        assert await connection.fetchval("SELECT to_regclass('kept')") is None
        await connection.close()


@pytest.mark.parametrize("which", [0, 1], ids=["postgres", "valkey"])
async def test_a_server_that_dies_is_started_again_where_it_was(used_data: Path, which: int) -> None:
    async with embedded.start(used_data, secret=SECRET, announce=ignore_announcement) as backends:
        await write_rows(backends)
        os.kill(list_server_pids(used_data)[which], signal.SIGKILL)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert await read_rows(backends) == (42, b"42")
                break
            except (OSError, asyncpg.PostgresError, RedisError):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)


async def test_a_taken_port_is_replaced_and_a_free_one_kept(used_data: Path) -> None:
    async with embedded.start(used_data, secret=SECRET, announce=ignore_announcement) as first:
        pass
    async with embedded.start(used_data, secret=SECRET, announce=ignore_announcement) as second:
        assert second == first
    with socket.create_server(("127.0.0.1", port_of(first.database_url))):
        async with embedded.start(used_data, secret=SECRET, announce=ignore_announcement) as third:
            assert third.database_url != first.database_url
            assert third.redis_url == first.redis_url


def port_of(url: str) -> int:
    return int(parse_qs(urlsplit(url).query)["port"][0])


async def test_a_database_is_reached_by_a_socket_in_its_folder_and_by_tcp(shared: tuple[Path, ServerUrls]) -> None:
    _, backends = shared
    by_tcp = urlsplit(backends.database_url)._replace(query="")
    by_tcp = by_tcp._replace(netloc=f"{by_tcp.netloc}127.0.0.1:{port_of(backends.database_url)}")
    for url, peer in ((backends.database_url, None), (by_tcp.geturl(), "127.0.0.1")):
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT host(inet_client_addr())") == peer
        await connection.close()


async def test_a_folder_whose_path_is_too_long_for_a_socket_works_too(data: Path) -> None:
    data.chmod(0o711)  # for root's servers, which run as another user
    deep = data / ("long" * 20)
    deep.mkdir(mode=0o711)
    try:
        async with embedded.start(deep, secret=SECRET, announce=ignore_announcement) as backends:
            await write_rows(backends)
            assert await read_rows(backends) == (42, b"42")
            assert urlsplit(backends.database_url).hostname == "127.0.0.1"
    finally:
        await embedded.stop_orphans(deep)


async def test_pid_files_that_name_somebody_else_stop_nothing(used_data: Path) -> None:
    async with embedded.start(used_data, secret=SECRET, announce=ignore_announcement) as backends:
        postmaster = (used_data / "postgres" / "postmaster.pid").read_text()
    somebody = subprocess.Popen(["sleep", "60"], user=get_server_uid(used_data))
    try:
        (used_data / "postgres" / "postmaster.pid").write_text(f"{somebody.pid}\n" + postmaster.split("\n", 1)[1])
        (used_data / "redis" / "redis.pid").write_text(f"{somebody.pid}\n")
        (used_data / "postgres" / f".s.PGSQL.{port_of(backends.database_url)}.lock").write_text(f"{somebody.pid}\n")
        async with embedded.start(used_data, secret=SECRET, announce=ignore_announcement):
            assert somebody.poll() is None
        assert somebody.poll() is None
    finally:
        somebody.kill()
        somebody.wait()


def get_server_uid(data: Path) -> int | None:
    return (data / "postgres").stat().st_uid if AS_ROOT else None


async def test_a_half_made_database_folder_is_made_anew(data: Path) -> None:
    half_made = data / "postgres.new-1"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    async with embedded.start(data, secret=SECRET, announce=ignore_announcement) as backends:
        await write_rows(backends)
    assert not half_made.exists()


@pytest.mark.parametrize("seconds", [0.05, 0.25])
async def test_a_cancelled_start_leaves_nothing_running(data: Path, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds), embedded.start(data, secret=SECRET, announce=ignore_announcement):
            await asyncio.sleep(60)
    assert list_server_pids(data) == []
    assert embedded.find_running(data) is None
    async with embedded.start(data, secret=SECRET, announce=ignore_announcement) as backends:
        await write_rows(backends)
