"""The laptop's Postgres and Valkey, started and stopped by the program, with their data in one folder.

They run as long as any process uses the folder: the first starts them, others join, the last one to leave stops them.
They outlive processes that are killed; the next start takes them over, so nothing that was written is lost.
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

from caravan.embedded import postgres, valkey
from caravan.embedded.lock import AlreadyRunning, Lease, find_users, lock_servers, remove_dead_leases
from caravan.embedded.paths import ServerPaths, StartError, find_paths, prepare_paths
from caravan.embedded.process import Server

__all__ = ["AlreadyRunning", "ServerUrls", "StartError", "find_running", "find_users", "start", "stop_orphans"]

_URLS_FILE = "backends.json"
_CHECK_SECONDS = 0.5
_RETRY_SECONDS = 5.0
_surviving_servers: list[Server] = []
"""Children of ours that go on for others: kept, because Python complains of the object of a running child that goes."""


@dataclass(frozen=True, slots=True)
class ServerUrls:
    database_url: str  # as the role that owns the server
    redis_url: str


def find_running(data: Path) -> ServerUrls | None:
    """How to reach the servers of a folder that live processes use; None if there are none, or the first is still
    starting.
    """
    data = data.expanduser().resolve()
    return _read_urls(data) if find_users(data) else None


def _read_urls(data: Path) -> ServerUrls | None:
    try:
        return ServerUrls(**json.loads((data / _URLS_FILE).read_text()))
    except FileNotFoundError:
        return None


@asynccontextmanager
async def start(data: Path, *, secret: str, announce: Callable[[str], None]) -> AsyncIterator[ServerUrls]:
    """Both servers, ready: started now, or those of the processes that use this folder already. One that dies meanwhile
    is started again on the same port.

    On the way out they are stopped, unless somebody else uses them. Raises AlreadyRunning if processes use them with
    another secret, StartError if a server can't be started.
    """
    data = data.expanduser().resolve()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    session = _ServerSession(data, secret, announce)
    backends = await session.start_servers()
    watch_task = asyncio.create_task(session.restart_dead_servers())
    try:
        yield backends
    finally:
        watch_task.cancel()
        await asyncio.wait([watch_task])
        await _run_to_completion(session.release_servers())


async def stop_orphans(data: Path) -> list[int]:
    """Stops what a killed program has left running from this folder; the pids that were stopped."""
    paths = find_paths(data.expanduser().resolve())
    servers = [server for server in (postgres.find_running(paths), valkey.find_running(paths)) if server]
    for server in servers:
        await server.stop()
    return [server.process.pid for server in servers]


StartServer = Callable[[ServerPaths, str, Callable[[str], None], Callable[[Server], None]], Awaitable[Server]]
_START_FUNCTIONS: dict[str, StartServer] = {"postgres": postgres.start, "valkey": valkey.start}


class _ServerSession:
    """One process's use of the servers, from its begin to its end."""

    def __init__(self, data: Path, secret: str, announce: Callable[[str], None]) -> None:
        self._data, self._announce = data, announce
        self._passwords = {
            name: hmac.new(secret.encode(), f"embedded {name}".encode(), hashlib.sha256).hexdigest()
            for name in _START_FUNCTIONS
        }
        self._servers: dict[str, Server] = {}

    async def start_servers(self) -> ServerUrls:
        async with lock_servers(self._data, self._announce):
            remove_dead_leases(self._data)
            other_pids = find_users(self._data)
            known_urls = _read_urls(self._data)
            if other_pids and known_urls and not self._has_same_secret(known_urls):
                raise AlreadyRunning(
                    f"{self._data} is in use by process {other_pids[0]} with another secret, or by an older "
                    f"release. Start with the same CARAVAN_SECRET, stop it (kill {other_pids[0]}),"
                    " or use another folder: CARAVAN_DATA=/another/folder"
                )
            self._lease = Lease(self._data)
            try:
                self._paths = await asyncio.to_thread(prepare_paths, self._data, self._announce)
                await _gather_or_cancel(self._start_server(name) for name in _START_FUNCTIONS)
                return self._write_urls()
            except BaseException:
                self._lease.release()
                if not other_pids:
                    await _run_to_completion(self._stop_servers())
                raise

    def _has_same_secret(self, server_urls: ServerUrls) -> bool:
        urls = {"postgres": server_urls.database_url, "valkey": server_urls.redis_url}
        return all(
            hmac.compare_digest(urlsplit(urls[name]).password or "", password)
            for name, password in self._passwords.items()
        )

    async def _start_server(self, name: str) -> None:
        """Takes over the one that runs, else starts it."""
        await _START_FUNCTIONS[name](
            self._paths, self._passwords[name], self._announce, lambda server: self._servers.update({name: server})
        )

    def _write_urls(self) -> ServerUrls:
        server_urls = ServerUrls(
            database_url=postgres.url(self._servers["postgres"], self._paths, self._passwords["postgres"]),
            redis_url=f"redis://:{self._passwords['valkey']}@127.0.0.1:{self._servers['valkey'].port}/0",
        )
        _write_private_file(self._data / _URLS_FILE, json.dumps(asdict(server_urls)))
        return server_urls

    async def restart_dead_servers(self) -> None:
        """Any user starts again what has died; whoever comes second finds it running."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            for name, server in list(self._servers.items()):
                if server.is_alive():
                    continue
                self._announce(f"{name} (process {server.process.pid}) has died: starting it again")
                try:
                    async with lock_servers(self._data, self._announce):
                        await self._start_server(name)
                        self._write_urls()
                except (AlreadyRunning, StartError, OSError) as failure:
                    self._announce(
                        f"{name} could not be started again, next attempt in {_RETRY_SECONDS:.0f} s: {failure}"
                    )
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                if self._servers[name].port != server.port:
                    self._announce(f"{name} had to move to port {self._servers[name].port}: restart the program")

    async def release_servers(self) -> None:
        try:
            async with lock_servers(self._data, self._announce):
                self._lease.release()
                other_pids = find_users(self._data)
                if other_pids:
                    _surviving_servers.extend(self._servers.values())
                    self._announce(f"the servers go on for process {', '.join(map(str, other_pids))}")
                else:
                    await self._stop_servers()
        except AlreadyRunning as failure:
            self._announce(f"the servers are left running: {failure}")
            self._lease.release()

    async def _stop_servers(self) -> None:
        (self._data / _URLS_FILE).unlink(missing_ok=True)
        if self._servers:
            for name, server in (
                ("postgres", postgres.find_running(self._paths)),
                ("valkey", valkey.find_running(self._paths)),
            ):
                if server and (name not in self._servers or not self._servers[name].is_alive()):
                    self._servers[name] = server  # another user has started it anew
            await _stop_all(self._servers, self._announce)


async def _stop_all(servers: dict[str, Server], announce: Callable[[str], None]) -> None:
    started_at = time.monotonic()
    names = list(servers)
    stopped = await asyncio.gather(*(servers[name].stop() for name in names))
    for name, is_stopped in zip(names, stopped, strict=True):
        announce(
            f"{name} stopped ({time.monotonic() - started_at:.1f} s)"
            if is_stopped
            else f"{name} (process {servers[name].process.pid}) does not stop"
        )


async def _gather_or_cancel(coroutines: Iterable[Coroutine[None, None, None]]) -> None:
    """Side by side; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run_to_completion(coroutine: Coroutine[None, None, None]) -> None:
    """Await `coroutine` to its end, even when the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(coroutine)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as request:
            cancellation = request
    if cancellation:
        raise cancellation


def _write_private_file(path: Path, text: str) -> None:
    temporary_path = path.with_name(f".{path.name}.new")
    temporary_path.unlink(missing_ok=True)
    with open(os.open(temporary_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary_path.replace(path)
