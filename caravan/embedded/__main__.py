"""`python -m caravan.embedded remove FOLDER`, for `make clean`: stops what runs from the folder and removes its
databases.
"""

import asyncio
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from caravan.embedded import find_users, stop_orphans
from caravan.embedded.paths import find_paths

_STOP_SECONDS = 60


async def _remove_databases(data: Path) -> None:
    signalled_pids: set[int] = set()
    deadline = time.monotonic() + _STOP_SECONDS
    while users := find_users(data):
        for pid in set(users) - signalled_pids:
            print(f"stopping process {pid}")
            os.kill(pid, signal.SIGTERM)
            signalled_pids.add(pid)
        if time.monotonic() > deadline:
            raise SystemExit(f"process {users[0]} does not stop; nothing was removed")
        await asyncio.sleep(0.1)
    for orphan in await stop_orphans(data):
        print(f"stopped process {orphan}")
    home = find_paths(data).home
    for name in ("postgres", "redis"):
        shutil.rmtree(home / name, ignore_errors=True)
    if home != data:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["remove", folder]:
            asyncio.run(_remove_databases(Path(folder).resolve()))
        case _:
            raise SystemExit("usage: python -m caravan.embedded remove FOLDER")
