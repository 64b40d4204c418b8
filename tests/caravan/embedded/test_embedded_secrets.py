"""Who can read what the laptop's servers keep: files, passwords, command lines."""

import os
import shutil
import stat
from pathlib import Path

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from caravan import embedded
from caravan.embedded import ServerUrls, paths
from tests.caravan.embedded.embedded_servers import (
    AS_ROOT,
    SECRET,
    ignore_announcement,
    list_server_pids,
    read_rows,
    write_rows,
)


async def test_nobody_else_reads_what_is_in_the_folder(data: Path) -> None:
    data.chmod(0o755)
    (data / "log").mkdir(mode=0o755)
    (data / "log" / "postgres.log").touch(mode=0o644)
    old = os.umask(0o022)
    try:
        async with embedded.start(data, secret=SECRET, announce=ignore_announcement) as backends:
            await write_rows(backends)
            for path in [data, *data.rglob("*")]:
                allowed = 0o711 if path == data and AS_ROOT else 0o700 if path.is_dir() else 0o600
                assert path.is_symlink() or stat.S_IMODE(path.stat().st_mode) & ~allowed == 0, path
    finally:
        os.umask(old)


async def test_passwords_are_asked_for(shared: tuple[Path, ServerUrls]) -> None:
    _, backends = shared
    url, _, password = backends.database_url.partition("@")[0].rpartition(":")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(backends.database_url.replace(f"{url}:{password}@", f"{url}:wrong@"))
    redis_password = backends.redis_url.split("@")[0].rpartition(":")[2]
    async with Redis.from_url(backends.redis_url.replace(redis_password, "wrong")) as client:
        with pytest.raises(AuthenticationError):
            await client.ping()


async def test_no_secret_is_in_a_command_line_or_an_environment(shared: tuple[Path, ServerUrls]) -> None:
    folder, backends = shared
    secrets = [SECRET, *(url.split("@")[0].rpartition(":")[2] for url in (backends.database_url, backends.redis_url))]
    shown = "\n".join(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    shown += (
        "".join(Path(f"/proc/{pid}/environ").read_text() for pid in list_server_pids(folder))
        if Path("/proc/self/environ").exists()
        else ""
    )
    assert str(folder) in shown
    assert not any(secret in shown for secret in secrets)


async def test_every_file_with_a_secret_is_its_owner_s_alone(shared: tuple[Path, ServerUrls]) -> None:
    folder, backends = shared
    secrets = [SECRET, *(url.split("@")[0].rpartition(":")[2] for url in (backends.database_url, backends.redis_url))]
    for path in folder.rglob("*"):
        if (
            path.is_file()
            and path.suffix in {".conf", ".json", ".log", ""}
            and any(secret.encode() in path.read_bytes() for secret in secrets)
        ):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.skipif(not AS_ROOT, reason="only root's servers run as another user")
async def test_root_s_folder_that_others_can_t_reach_stays_closed(data: Path) -> None:
    closed = data / "closed"
    closed.mkdir(mode=0o700)
    announcements: list[str] = []
    async with embedded.start(closed / "data", secret=SECRET, announce=announcements.append) as backends:
        await write_rows(backends)
    async with embedded.start(closed / "data", secret=SECRET, announce=ignore_announcement) as backends:
        assert await read_rows(backends) == (42, b"42")
    home = paths.find_paths(closed / "data").home
    try:
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert any(str(home) in line for line in announcements)
        assert not home.is_relative_to(data)
        assert list_server_pids(closed / "data") == []
    finally:
        shutil.rmtree(home)
