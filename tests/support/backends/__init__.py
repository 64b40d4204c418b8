"""Where the tests' Kafka and RabbitMQ come from: URLs in the environment, else a container engine, else native packages
(`make brokers`).

Each is started at most once per test run, by the first test that asks, and shared by all workers. `keeper.py` holds it
and ends it when the run has ended,
in whatever way; `plugin.py` has the fixtures and says in the run's last lines what was used and what was left out. A
PgBouncer is a test's own (`pgbouncer.py`).
"""

import fcntl
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

RUN_FOLDER = "TEST_RUN_FOLDER"
"""Names the folder of the present run; set by its first process and inherited by its workers."""
START_SECONDS = 240
"""For both ways together; most of it is only used where an image must be pulled."""
_keepers: list[subprocess.Popen[bytes]] = []
"""Those that this process started: they outlive it, so nobody here waits for them."""
ROOT = Path(__file__).parents[3]


class Unavailable(Exception):
    """This way leads to no broker here; the text says why."""


@dataclass(frozen=True, slots=True)
class Broker:
    name: str
    url: str
    source: str
    management_url: str = ""
    version: str = ""

    def at_least(self, *version: int) -> bool:
        return tuple(int(part) for part in self.version.split(".")[:2] if part.isdigit()) >= version


def named(name: str) -> Broker | None:
    """The broker that the environment names."""
    url = os.environ.get(f"TEST_{name.upper()}_URL", "")
    if not url:
        return None
    return Broker(name, url, f"TEST_{name.upper()}_URL", os.environ.get(f"TEST_{name.upper()}_MANAGEMENT_URL", ""))


def broker(name: str) -> Broker:
    """The run's broker, started now if it is not yet. Raises Unavailable with what was tried."""
    folder = Path(os.environ[RUN_FOLDER])
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = folder / f"{name}.json"
        if not state.exists():
            found = named(name)
            if found:
                write(state, asdict(found))
            else:
                _start_keeper(name, folder, state)
    found = orjson.loads(state.read_bytes())
    if "unavailable" in found:
        raise Unavailable(found["unavailable"])
    return Broker(**found)


def write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all: another process may be reading."""
    part = path.with_suffix(".part")
    part.write_bytes(orjson.dumps(content))
    part.rename(path)


def _start_keeper(name: str, folder: Path, state: Path) -> None:
    with (folder / f"{name}.log").open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.backends.keeper", name, str(folder), os.environ["TEST_RUN_PID"]],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the tests; the keeper ends when they have
        )
    _keepers.append(keeper)
    (folder / f"{name}.pid").write_text(str(keeper.pid))
    end = time.monotonic() + START_SECONDS
    while not state.exists():
        if keeper.poll() is not None or time.monotonic() > end:
            keeper.terminate()
            write(state, {"unavailable": f"the start failed: {(folder / f'{name}.log').read_text()[-500:]}"})
        time.sleep(0.1)
