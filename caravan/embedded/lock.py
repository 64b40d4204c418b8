"""Who holds a data folder: one program at a time, by a lock that the kernel takes back when the program dies."""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

# `holder` takes the lock for an instant; whoever starts at that instant must not be refused.
PATIENCE_SECONDS = 0.3


class AlreadyRunning(Exception):
    """Another process holds the data folder; the text names both and says what to do."""

    def __init__(self, data: Path, pid: int | None) -> None:
        self.pid = pid
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{data} is in use by {who}. Stop it (kill {pid or 'PID'}), or start with another folder: CARAVAN_DATA=/another/folder"
        )


@asynccontextmanager
async def hold(data: Path) -> AsyncIterator[None]:
    # The descriptor is not inheritable: a server that outlives us does not keep the lock.
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        patience = time.monotonic() + PATIENCE_SECONDS
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > patience:
                raise AlreadyRunning(data, _pid(descriptor))
            await asyncio.sleep(0.03)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(data: Path) -> int | None:
    """The pid of the live process that holds this folder, if one does."""
    try:
        descriptor = os.open(data / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if _locked(descriptor, fcntl.LOCK_SH) else _pid(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
