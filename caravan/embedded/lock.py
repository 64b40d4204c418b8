"""Who uses a data folder, and who may change its servers now, by file locks that the operating system releases when a
process dies.

Each user holds a lease: a file of its own that it has locked. The last one to leave stops the servers. Starting,
joining and leaving happen one at a time.
"""

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

_WAIT_SECONDS = 240.0
"""A start may wait for the start or the stop of another process, which have deadlines of their own within this."""
_POLL_SECONDS = 0.05
_ANNOUNCE_AFTER_SECONDS = 1.0


class AlreadyRunning(Exception):
    """Another process has the data folder in a way that leaves no room for this one; the text says how, and what to
    do.
    """


class Lease:
    """This process's use of a folder, until it is given up or the process ends."""

    def __init__(self, data: Path) -> None:
        folder = data / "users"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        # The descriptor is not inheritable: a server that outlives us does not keep the lease.
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def find_users(data: Path) -> list[int]:
    """The pids of the live processes that use this folder."""
    return [int(path.name.partition("-")[0]) for path in _list_leases(data) if _is_locked(path)]


def remove_dead_leases(data: Path) -> None:
    """Leases of processes that were killed. Only for who may change the servers: a lease is made before it is
    locked.
    """
    for path in _list_leases(data):
        if not _is_locked(path):
            path.unlink(missing_ok=True)


@asynccontextmanager
async def lock_servers(
    data: Path, announce: Callable[[str], None], seconds: float = _WAIT_SECONDS
) -> AsyncIterator[None]:
    """The right to start, join, restart or stop the servers; waits for whoever has it. Raises AlreadyRunning when that
    takes too long.
    """
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        started_at, is_announced = time.monotonic(), False
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            waited_seconds, lock_owner = time.monotonic() - started_at, _read_pid(descriptor)
            name = f"process {lock_owner}" if lock_owner else "another process"
            if waited_seconds > seconds:
                raise AlreadyRunning(
                    f"{data}: {name} has been starting or stopping the servers for {waited_seconds:.0f} s. Look what "
                    "it does, or use another folder:"
                    " CARAVAN_DATA=/another/folder"
                )
            if waited_seconds > _ANNOUNCE_AFTER_SECONDS and not is_announced:
                is_announced = True
                announce(f"waiting for {name}, which is starting or stopping the servers")
            await asyncio.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _list_leases(data: Path) -> list[Path]:
    return sorted(path for path in (data / "users").glob("*-*") if path.name.partition("-")[0].isdigit())


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
