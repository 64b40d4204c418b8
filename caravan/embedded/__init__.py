"""The laptop's Postgres and Redis, started and stopped by the program, with their data in one folder.

They run as long as any process uses the folder: the first starts them, others join, the last one to leave stops them. They outlive processes that
are killed; the next start takes them over, so nothing that was written is lost.
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
from urllib.parse import urlsplit

from caravan.embedded import postgres, redis
from caravan.embedded.lock import AlreadyRunning, Lease, changing, find_users, forget_the_dead
from caravan.embedded.place import Place, StartFailed, find, prepare
from caravan.embedded.process import Server

__all__ = ["AlreadyRunning", "Backends", "StartFailed", "find_users", "running", "start", "stop_orphans"]

NOTE = "backends.json"
WATCH_SECONDS = 0.5
RETRY_SECONDS = 5.0
_left_running: list[Server] = []
"""Children of ours that go on for others: kept, because Python complains of the object of a running child that goes."""


@dataclass(frozen=True, slots=True)
class Backends:
    database_url: str  # as the role that owns the server
    redis_url: str


def running(data: Path) -> Backends | None:
    """How to reach the servers of a folder that live processes use; None if there are none, or the first is still starting."""
    data = data.expanduser().resolve()
    return _noted(data) if find_users(data) else None


def _noted(data: Path) -> Backends | None:
    try:
        return Backends(**json.loads((data / NOTE).read_text()))
    except FileNotFoundError:
        return None


@asynccontextmanager
async def start(data: Path, *, secret: str, announce: Callable[[str], None]) -> AsyncIterator[Backends]:
    """Both servers, ready: started now, or those of the processes that use this folder already. One that dies meanwhile is started again on the same port.

    On the way out they are stopped, unless somebody else uses them. Raises AlreadyRunning if processes use them with another secret, StartFailed if a
    server can't be started.
    """
    data = data.expanduser().resolve()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    use = _Use(data, secret, announce)
    backends = await use.begin()
    watch = asyncio.create_task(use.watch())
    try:
        yield backends
    finally:
        watch.cancel()
        await asyncio.wait([watch])
        await _to_the_end(use.end())


async def stop_orphans(data: Path) -> list[int]:
    """Stops what a killed program has left running from this folder; the pids that were stopped."""
    place = find(data.expanduser().resolve())
    found = [server for server in (postgres.running(place), redis.running(place)) if server]
    for server in found:
        await server.stop()
    return [server.process.pid for server in found]


Start = Callable[[Place, str, Callable[[str], None], Callable[[Server], None]], Awaitable[Server]]
STARTS: dict[str, Start] = {"postgres": postgres.start, "redis": redis.start}


class _Use:
    """One process's use of the servers, from its begin to its end."""

    def __init__(self, data: Path, secret: str, announce: Callable[[str], None]) -> None:
        self._data, self._announce = data, announce
        self._passwords = {name: hmac.new(secret.encode(), f"embedded {name}".encode(), hashlib.sha256).hexdigest() for name in STARTS}
        self._servers: dict[str, Server] = {}

    async def begin(self) -> Backends:
        async with changing(self._data, self._announce):
            forget_the_dead(self._data)
            others = find_users(self._data)
            noted = _noted(self._data)
            if others and noted and not self._fits(noted):
                raise AlreadyRunning(
                    f"{self._data} is in use by process {others[0]} with another secret. Start with the same CARAVAN_SECRET, stop it (kill {others[0]}),"
                    " or use another folder: CARAVAN_DATA=/another/folder"
                )
            self._lease = Lease(self._data)
            try:
                self._place = await asyncio.to_thread(prepare, self._data, self._announce)
                await _all(self._launch(name) for name in STARTS)
                return self._note()
            except BaseException:
                self._lease.give_up()
                if not others:
                    await _to_the_end(self._stop())
                raise

    def _fits(self, backends: Backends) -> bool:
        urls = {"postgres": backends.database_url, "redis": backends.redis_url}
        return all(hmac.compare_digest(urlsplit(urls[name]).password or "", password) for name, password in self._passwords.items())

    async def _launch(self, name: str) -> None:
        """Takes over the one that runs, else starts it."""
        await STARTS[name](self._place, self._passwords[name], self._announce, lambda server: self._servers.update({name: server}))

    def _note(self) -> Backends:
        backends = Backends(
            database_url=postgres.url(self._servers["postgres"], self._place, self._passwords["postgres"]),
            redis_url=f"redis://:{self._passwords['redis']}@127.0.0.1:{self._servers['redis'].port}/0",
        )
        _write_private(self._data / NOTE, json.dumps(asdict(backends)))
        return backends

    async def watch(self) -> None:
        """Any user starts again what has died; whoever comes second finds it running."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for name, server in list(self._servers.items()):
                if server.alive():
                    continue
                self._announce(f"{name} (process {server.process.pid}) has died: starting it again")
                try:
                    async with changing(self._data, self._announce):
                        await self._launch(name)
                        self._note()
                except (AlreadyRunning, StartFailed, OSError) as failure:
                    self._announce(f"{name} could not be started again, next attempt in {RETRY_SECONDS:.0f} s: {failure}")
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if self._servers[name].port != server.port:
                    self._announce(f"{name} had to move to port {self._servers[name].port}: restart the program")

    async def end(self) -> None:
        try:
            async with changing(self._data, self._announce):
                self._lease.give_up()
                others = find_users(self._data)
                if others:
                    _left_running.extend(self._servers.values())
                    self._announce(f"the servers go on for process {', '.join(map(str, others))}")
                else:
                    await self._stop()
        except AlreadyRunning as failure:
            self._announce(f"the servers are left running: {failure}")
            self._lease.give_up()

    async def _stop(self) -> None:
        (self._data / NOTE).unlink(missing_ok=True)
        if self._servers:
            for name, server in (("postgres", postgres.running(self._place)), ("redis", redis.running(self._place))):
                if server and (name not in self._servers or not self._servers[name].alive()):
                    self._servers[name] = server  # another user has started it anew
            await _stop(self._servers, self._announce)


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
