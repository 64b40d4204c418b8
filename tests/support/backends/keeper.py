"""Holds one broker for a test run: `python -m tests.support.backends.keeper kafka FOLDER PID` runs until the process
PID or the folder is gone, or told to stop.
"""

import contextlib
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil

from tests.support.backends import Unavailable, write
from tests.support.backends.containers import container
from tests.support.backends.native import native

WAYS = (container, native)


def keep(name: str, folder: Path, run: psutil.Process) -> None:
    tried: list[str] = []
    for way in WAYS:
        try:
            with way(name, folder) as broker:
                write(folder / f"{name}.json", asdict(broker))
                while (
                    run.is_running()
                    and run.status() != psutil.STATUS_ZOMBIE
                    and not (folder / "stop").exists()
                    and folder.exists()
                ):
                    time.sleep(0.2)
                return
        except Unavailable as reason:
            tried.append(f"{way.__name__}: {reason}")
    write(folder / f"{name}.json", {"unavailable": f"TEST_{name.upper()}_URL is not set; {'; '.join(tried)}"})


def main(name: str, folder: Path, pid: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        run = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    keep(name, folder, run)
    with contextlib.suppress(psutil.NoSuchProcess):
        if run.is_running() and run.status() != psutil.STATUS_ZOMBIE:
            return  # it removes the folder itself, when it has told what was in it
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
