"""The laptop's Valkey: started, or taken over from an earlier run; every write in an append-only file.

`valkey_binary.py` chooses the program, which may also be a Redis. The folder and its files have the names of Redis,
which wrote the first of them, so that an older folder is found.
"""

import asyncio
import fcntl
import os
import re
import signal
import time
from collections.abc import Callable
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
from caravan.embedded.valkey_binary import PROCESS_NAMES, Binary, choose_binary, record_writer

_READY_SECONDS = 60.0
_STOP_SIGNALS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

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


def find_running(paths: ServerPaths) -> Server | None:
    """The server that runs from this folder, whoever started it."""
    folder = paths.home / "redis"
    process = find_server_process(folder, folder / "redis.pid", PROCESS_NAMES)
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
                    announce(f"Valkey was still running: taken over on 127.0.0.1:{existing_server.port}")
                    return existing_server
            if not await existing_server.stop() or not await _wait_until_unlocked(lock):
                raise StartError(
                    f"the Valkey of an earlier run, process {existing_server.process.pid}, does not stop: see {log}"
                )
        binary = await asyncio.to_thread(choose_binary, paths, folder, announce)
        record_writer(paths, folder, binary)
        log_offset = log.stat().st_size
        server = _launch_server(paths, binary, folder, password, log, lock)
        on_start(server)
        if not await _wait_until_ready(server, password):
            await server.stop()
            raise StartError(
                f"{binary.release} did not start in {folder}. Its log, {log}, ends:\n{tail_log(log, log_offset)}"
            )
        announce(f"{binary.release} is ready on 127.0.0.1:{server.port} ({time.monotonic() - started_at:.1f} s)")
        return server
    finally:
        os.close(lock)


def _launch_server(paths: ServerPaths, binary: Binary, folder: Path, password: str, log: Path, lock: int) -> Server:
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
