"""The laptop's Postgres and Redis, started and stopped by the program, with their data in one folder.

They outlive a program that is killed; its next start takes them over, so nothing that was written is lost.
"""

import asyncio
import hashlib
import hmac
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from caravan.embedded import postgres, redis
from caravan.embedded.lock import AlreadyRunning, hold, holder
from caravan.embedded.place import Place, StartFailed, find, prepare
from caravan.embedded.process import Server

__all__ = ["AlreadyRunning", "Backends", "StartFailed", "holder", "running", "start", "stop_orphans"]

WATCH_SECONDS = 0.5
RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Backends:
    database_url: str  # as the role that owns the server
    redis_url: str


def running(data: Path) -> Backends | None:
    """How to reach the servers of a live program that holds this folder; None if there is none, or it is still starting."""
    data = data.expanduser().resolve()
    if holder(data) is None:
        return None
    try:
        return Backends(**json.loads((data / "backends.json").read_text()))
    except FileNotFoundError:
        return None


@asynccontextmanager
async def start(data: Path, *, secret: str, announce: Callable[[str], None]) -> AsyncIterator[Backends]:
    """Both servers, ready; stopped on the way out. One that dies meanwhile is started again on the same port.

    Raises AlreadyRunning if another process holds the folder, StartFailed if a server can't be started.
    """
    data = data.expanduser().resolve()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with hold(data), _served(data, secret, announce) as backends:
        yield backends


async def stop_orphans(data: Path) -> list[int]:
    """Stops what a killed program has left running from this folder; the pids that were stopped."""
    place = find(data.expanduser().resolve())
    found = [server for server in (postgres.running(place), redis.running(place)) if server]
    for server in found:
        await server.stop()
    return [server.process.pid for server in found]


Start = Callable[[Place, str, Callable[[str], None], Callable[[Server], None]], Awaitable[Server]]
STARTS: dict[str, Start] = {"postgres": postgres.start, "redis": redis.start}


@asynccontextmanager
async def _served(data: Path, secret: str, announce: Callable[[str], None]) -> AsyncIterator[Backends]:
    note = data / "backends.json"
    note.unlink(missing_ok=True)
    place = await asyncio.to_thread(prepare, data, announce)
    passwords = {name: hmac.new(secret.encode(), f"embedded {name}".encode(), hashlib.sha256).hexdigest() for name in STARTS}
    servers: dict[str, Server] = {}

    async def launch(name: str) -> None:
        await STARTS[name](place, passwords[name], announce, lambda server: servers.update({name: server}))

    try:
        await _all(launch(name) for name in STARTS)
        backends = Backends(
            database_url=f"postgresql://postgres:{passwords['postgres']}@127.0.0.1:{servers['postgres'].port}/postgres",
            redis_url=f"redis://:{passwords['redis']}@127.0.0.1:{servers['redis'].port}/0",
        )
        _write_private(note, json.dumps(asdict(backends)))
        watch = asyncio.create_task(_watch(servers, launch, announce))
        try:
            yield backends
        finally:
            watch.cancel()
            await asyncio.wait([watch])
    finally:
        note.unlink(missing_ok=True)
        await _to_the_end(_stop(servers, announce))


async def _watch(servers: dict[str, Server], launch: Callable[[str], Awaitable[None]], announce: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        for name, server in list(servers.items()):
            if server.alive():
                continue
            announce(f"{name} (process {server.process.pid}) has died: starting it again")
            try:
                await launch(name)
            except (StartFailed, OSError) as failure:
                announce(f"{name} could not be started again, next attempt in {RETRY_SECONDS:.0f} s: {failure}")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if servers[name].port != server.port:
                announce(f"{name} had to move to port {servers[name].port}: restart the program")


async def _stop(servers: dict[str, Server], announce: Callable[[str], None]) -> None:
    began = time.monotonic()
    names = list(servers)
    stopped = await asyncio.gather(*(servers[name].stop() for name in names))
    for name, done in zip(names, stopped, strict=True):
        announce(
            f"{name} stopped ({time.monotonic() - began:.1f} s)" if done else f"{name} (process {servers[name].process.pid}) does not stop"
        )


async def _all(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Side by side; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _to_the_end(work: Coroutine[None, None, None]) -> None:
    """Runs `work` to its end, even when the one who waits is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as request:
            cancelled = request
    if cancelled:
        raise cancelled


def _write_private(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
