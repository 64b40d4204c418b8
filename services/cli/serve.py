"""Serve some services in this process: find or start the backends, wait for them, migrate, run, listen."""

import asyncio
import os
import resource
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import uvicorn
import uvloop

from caravan import embedded, telemetry
from caravan.bus import Subscription
from caravan.bus.topology import NotDeclared, TopologyError
from caravan.errors import DeadlineExceeded, Unavailable
from caravan.http import App
from caravan.messages import Binding, Exchange
from caravan.migrations import NotMigrated
from caravan.runtime import Backends, Process, migrate, migrated
from caravan.service import Service
from caravan.settings import Settings, SettingsError
from services.__main__ import SERVICES, load
from services.cli.connections import HEADROOM, MAX_HEAD, BoundedProtocol, Bounds
from services.cli.terminal import fail
from services.identity.client import KEYS

T = TypeVar("T")
MOST_FILES = 65_536
RESERVED_FILES = 512
"""For the backends, for services that are called, and for what is read and written."""
PROBES = 200
Announce = Callable[[str], None]
Prepare = Callable[[Process], Awaitable[T]]
"""Makes what the settings promise beyond the services themselves. Nobody is answered before it is done."""
AfterStart = Callable[[Process, T], Coroutine[Any, Any, None]]
AWAY = (
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    NotMigrated,
    NotDeclared,
    Unavailable,
    DeadlineExceeded,
)
"""Backends, their tables and topics may come after us, and be slow when they have: they are waited for."""


def master_secret(kernel: Settings) -> str:
    """The secret that is set, or the one that the data folder keeps; made at the first start."""
    if kernel.secret:
        return kernel.secret.get_secret_value()
    path = kernel.data / "secret"
    kernel.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        new = path.with_name(f".secret.{os.getpid()}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as made:
            made.write(secrets.token_hex(32))
        try:
            os.link(new, path)  # whole or not at all: another process may be starting too
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return path.read_text().strip()


@asynccontextmanager
async def backends(kernel: Settings, announce: Announce) -> AsyncIterator[Backends]:
    """The backends of the settings, else the embedded ones of the data folder, shared with whoever uses it."""
    secret = master_secret(kernel)
    database_url = kernel.database_url.get_secret_value() if kernel.database_url else None
    redis_url = kernel.redis_url.get_secret_value() if kernel.redis_url else None
    async with AsyncExitStack() as stack:
        if database_url is None or redis_url is None:
            found = await stack.enter_async_context(embedded.start(kernel.data, secret=secret, announce=announce))
            database_url, redis_url = database_url or found.database_url, redis_url or found.redis_url
        jobs_redis_url = kernel.jobs_redis_url.get_secret_value() if kernel.jobs_redis_url else None
        yield Backends(database_url, redis_url, secret, jobs_redis_url, kernel.database_passwords)


class Server(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again when it has ended, and that would end the process before its services and backends have.

    It wakes once a second for the Date of its answers, where uvicorn wakes ten times to see whether it shall end: here it is told.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._ending.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as error:
        fail(f"can't listen on {host}:{port}: {error.strerror}. Stop what uses the port, or set CARAVAN_PORT (0 takes a free one).")


def on_signal(action: Callable[[], object]) -> None:
    for ending in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ending, action)


async def patiently(action: Callable[[], Awaitable[T]], kernel: Settings, announce: Announce) -> T:
    """The result of an action that is repeated while the backends are away, or their tables and topics not there yet."""
    end, told = time.monotonic() + kernel.start_seconds, ""
    while True:
        try:
            return await action()
        except AWAY as error:
            reason = str(error) or type(error).__name__
            if time.monotonic() > end:
                fail(f"gave up after {kernel.start_seconds:g} s: {reason}; {_advice(error)}")
            if reason != told:
                announce(f"waiting: {reason}")
            told = reason
            await asyncio.sleep(0.5)


def read_backends(work: Coroutine[Any, Any, T]) -> T:
    """The result of a command that asks the backends itself and does not wait for them; what they refuse is told in words."""
    try:
        return uvloop.run(work)
    except (embedded.AlreadyRunning, embedded.StartFailed, SettingsError) as error:
        fail(str(error))
    except AWAY as error:
        fail(f"{str(error) or type(error).__name__}; {_advice(error)}")
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        fail(f"Postgres: {error}; run `caravan migrate`, or correct CARAVAN_DATABASE_URL")


def _advice(error: Exception) -> str:
    if isinstance(error, NotMigrated):
        return "run `caravan migrate`"
    return "run one of them" if isinstance(error, NotDeclared) else "start it, or correct its URL"


@asynccontextmanager
async def running(
    services: Sequence[Service], kernel: Settings, servers: Backends, url: str, address: str, announce: Announce, prepare: Prepare[T]
) -> AsyncIterator[tuple[Process, T]]:
    async def begin() -> tuple[Process, T]:
        await (migrate(services, servers) if kernel.migrate else migrated(services, servers))
        process = Process(services, kernel, servers, KEYS, kernel.public_url or url, address=address, listeners=listeners(services))
        await process.__aenter__()
        try:
            return process, await prepare(process)
        except BaseException:
            await process.stop()
            raise

    announce("databases: migrating" if kernel.migrate else "databases: checking")
    process, prepared = await patiently(begin, kernel, announce)
    try:
        yield process, prepared
    finally:
        await process.stop()


def listeners(services: Sequence[Service]) -> list[Subscription]:
    """Everybody's readers of the exchanges that these services own. Only where there is such an exchange, the others' consumers are loaded, and no more of them."""
    owned = {channel.name for service in services for channel in service.channels if isinstance(channel, Exchange)}
    names = [name for name in SERVICES if find_spec(f"services.{name}.consumers")] if owned else []
    everybody = [consumer.subscription for name in names for consumer in import_module(f"services.{name}.consumers").consume.declared]
    return [reader for reader in everybody if isinstance(reader.source, Binding) and reader.channel in owned]


@asynccontextmanager
async def apart(app: App, process: Process, listener: socket.socket | None, bounds: Bounds) -> AsyncIterator[None]:
    """An application on a port of its own, where there is one, until the process has stopped."""
    if listener is None:
        yield
        return
    server = _server(app, process.kernel, bounds)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.stop()
        await serving


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def _bounds(process: Process) -> Bounds:
    """Clients are strangers, and each address may have a part of the connections only; who asks a service alone is a gateway of ours."""
    kernel, gateway = process.kernel, process.contexts.get("gateway")
    most = min(kernel.connections, max(64, _open_files() - RESERVED_FILES))
    if gateway is None:
        return Bounds(most, head=MAX_HEAD + HEADROOM)
    return Bounds(most, min(kernel.connections_per_address, most), gateway.settings.networks)


def _open_files() -> int:
    """As many as the system lets us have: by default it gives fewer than it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def _server(app: App, kernel: Settings, bounds: Bounds) -> Server:
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            interface="asgi3",
            server_header=False,
            proxy_headers=False,
            http=partial(BoundedProtocol, bounds=bounds),  # type: ignore[arg-type]  # whatever makes a protocol will do
            ws="none",
            timeout_graceful_shutdown=int(kernel.drain_seconds),
        )
    )


async def serve(names: Sequence[str], kernel: Settings, announce: Announce, prepare: Prepare[T], after_start: AfterStart[T]) -> None:
    """Run until SIGINT or SIGTERM, then drain."""
    on_signal(asyncio.current_task().cancel)  # type: ignore[union-attr]  # until there is a server to stop, ending means undoing the start
    services = load(names)
    listener = listen(kernel.host, kernel.port)
    # Clients reach the gateway's port: what services ask of others that share its process goes to another one.
    inner = listen(kernel.host, 0) if "gateway" in names and len(names) > 1 else None
    probes = listen(kernel.host, kernel.probe_port) if kernel.probe_port else None
    async with (
        backends(kernel, announce) as servers,
        running(services, kernel, servers, _url(listener), _url(inner or listener), announce, prepare) as (process, prepared),
        apart(process.app.probes, process, probes, Bounds(PROBES)),
        apart(process.app, process, inner, Bounds(kernel.connections, head=MAX_HEAD + HEADROOM)),
    ):
        server = _server(process.app.outside if "gateway" in names else process.app, kernel, _bounds(process))
        on_signal(server.stop)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        following: asyncio.Task[None] = asyncio.create_task(after_start(process, prepared))
        try:
            await serving
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def start(names: Sequence[str], kernel: Settings, announce: Announce, prepare: Prepare[T], after_start: AfterStart[T]) -> None:
    telemetry.configure_logs(kernel.log_level, kernel.log_format)
    try:
        uvloop.run(serve(names, kernel, announce, prepare, after_start))
    except asyncio.CancelledError:
        fail("stopped before it had started")
    except (embedded.AlreadyRunning, embedded.StartFailed, SettingsError, TopologyError) as error:
        fail(str(error))


def choose(names: Sequence[str]) -> list[str]:
    """The services by name; `all` is every one. Fails on a name that doesn't exist."""
    if "all" in names:
        return list(SERVICES)
    unknown = [name for name in names if name not in SERVICES]
    if unknown:
        fail(f"no service {', '.join(unknown)}; there are: {', '.join(SERVICES)}, or all")
    return list(dict.fromkeys(names))


def data_path(kernel: Settings) -> Path:
    return kernel.data.expanduser().resolve()
