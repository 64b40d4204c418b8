"""The folder of the laptop's Postgres: made by initdb, with its configuration and its password.

`postgres.py` starts and finds the server that runs on it.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from caravan.embedded.paths import ServerPaths, StartError
from caravan.embedded.process import (
    run_command,
    tail_log,
)

MAJOR = 18
_INITDB_SECONDS = 60.0
# Generous, for the recovery of 2 GB of log after a crash; a start without one takes a quarter of a second.
READY_SECONDS = 180.0
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


async def create_cluster(
    paths: ServerPaths, binaries: Path, cluster: Path, password: str, log: Path, announce: Callable[[str], None]
) -> None:
    for leftover in (*paths.home.glob("postgres.new-*"), paths.home / "password"):
        shutil.rmtree(leftover, ignore_errors=True)
    if cluster.exists():
        version = (cluster / "PG_VERSION").read_text().strip()
        if version != str(MAJOR):
            raise StartError(
                f"{cluster} was made by Postgres {version}, and this is {MAJOR}: dump it with the old version, or "
                "remove the folder"
            )
        return
    announce(f"Postgres {MAJOR}: creating the database folder {cluster}")
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


async def set_password(
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
        READY_SECONDS,
        stdin=statement.encode(),
    )
    if code != 0 or "ERROR" in tail_log(log, log_offset):
        raise StartError(f"the password could not be set in {cluster}:\n{tail_log(log, log_offset)}")
    paths.write_file(password_file, _compute_fingerprint(password))


def write_configuration(paths: ServerPaths, cluster: Path, port: int) -> None:
    paths.write_file(cluster / "pg_hba.conf", _HBA_CONFIGURATION)
    paths.write_file(cluster / "postgresql.conf", _CONFIGURATION.format(port=port))


def is_unchanged(cluster: Path, password: str) -> bool:
    port = read_port(cluster)
    return (
        (cluster / "postgresql.conf").read_text() == _CONFIGURATION.format(port=port)
        and (cluster / "pg_hba.conf").read_text() == _HBA_CONFIGURATION
        and (cluster / "caravan-password").exists()
        and (cluster / "caravan-password").read_text() == _compute_fingerprint(password)
    )


def _compute_fingerprint(password: str) -> str:
    return hashlib.sha256(f"fingerprint of {password}".encode()).hexdigest()


def read_port(cluster: Path) -> int | None:
    try:
        port_line = re.search(r"^port = (\d+)$", (cluster / "postgresql.conf").read_text(), re.MULTILINE)
    except FileNotFoundError:
        return None
    return int(port_line[1]) if port_line else None
