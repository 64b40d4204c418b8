"""A PgBouncer of a test's own, in front of a Postgres: a program of the PATH or the one that `make brokers` built, as
a process on a free port.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support.backends import Unavailable
from tests.support.backends.ready import free_ports, wait

VERSION = "1.24.1"
"""What `make brokers` builds where the system's package is older than OLDEST."""
OLDEST = (1, 21)
"""The first that carries prepared statements from one session to another."""
BUILT = (
    Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    / "caravan-tests"
    / f"pgbouncer-{VERSION}"
    / "pgbouncer"
)
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Bouncer:
    url: str
    """As the administrator of the server, through it."""
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)


def program() -> str:
    """Raises Unavailable where there is none that is new enough."""
    there: list[str] = []
    for found in (shutil.which("pgbouncer"), "/usr/sbin/pgbouncer", str(BUILT)):
        if found and Path(found).exists():
            version_text = subprocess.run(
                [found, "--version"], capture_output=True, text=True, check=False, timeout=5, stdin=subprocess.DEVNULL
            ).stdout
            version = re.search(r"(\d+)\.(\d+)", version_text)
            if version and (int(version[1]), int(version[2])) >= OLDEST:
                return found
            there.append(f"{found} is {version_text.splitlines()[0] if version_text else 'no PgBouncer'}")
    raise Unavailable(
        f"PgBouncer {OLDEST[0]}.{OLDEST[1]} or newer is missing (make brokers){''.join(f'; {one}' for one in there)}"
    )


@contextmanager
def pgbouncer(server: str, **settings: str) -> Iterator[Bouncer]:
    """In front of the server of an administrator's URL. It asks the server for the passwords of roles, as one does
    where roles come and go.

    `settings`: of its configuration, by default transactions from a pool of 20 sessions per database and role.
    """
    found = program()
    given = urlsplit(server)
    host, server_port = given.hostname or "127.0.0.1", given.port or parse_qs(given.query)["port"][0]
    (port,) = free_ports(1)
    place = Path(tempfile.mkdtemp(prefix="caravan-pgbouncer-"))
    place.chmod(0o755)  # it runs as somebody else where the tests run as root
    users, log = place / "users.txt", place / "pgbouncer.log"
    users.write_text(f'"{given.username}" "{given.password}"\n')
    options = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": str(users),
        "auth_user": str(given.username),
        "auth_dbname": given.path.removeprefix("/"),
        "pool_mode": "transaction",
        "default_pool_size": "20",
        "max_client_conn": "1000",
        "max_prepared_statements": "200",
        **settings,
    }
    configuration = place / "pgbouncer.ini"
    lines = [f"{name} = {value}" for name, value in options.items()]
    configuration.write_text(
        f"[databases]\n* = host={host} port={server_port}\n[pgbouncer]\n" + "\n".join(lines) + "\n"
    )
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    if as_nobody:
        os.chown(users, NOBODY, NOBODY)
    users.chmod(0o600)
    with log.open("ab") as out:
        process = subprocess.Popen(
            [found, *as_nobody, str(configuration)], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        wait("PgBouncer", lambda: "process up" in log.read_text(), lambda: process.poll() is None)
        yield Bouncer(
            given._replace(netloc=f"{given.netloc.rpartition('@')[0]}@127.0.0.1:{port}", query="").geturl(), process
        )
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(place, ignore_errors=True)
