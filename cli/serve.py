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
from caravan.database.migrations import NotMigrated
from caravan.errors import DeadlineExceeded, ServiceUnavailable
from caravan.http import App
from caravan.messages import Binding, Exchange
from caravan.runtime import Backends, Process, check_migrations, run_migrations
from caravan.service import Service
from caravan.settings import Settings, SettingsError
from cli.connections import GATEWAY_HEAD_BYTES, MAX_HEAD_BYTES, BoundedProtocol, ConnectionLimits
from cli.terminal import exit_with_error
from services.identity.client import GET_KEY_SET
from services.registry import SERVICES, load_services

T = TypeVar("T")
MAX_OPEN_FILES = 65_536
RESERVED_FILES = 512
"""For the backends, for services that are called, and for what is read and written."""
MAX_PROBE_CONNECTIONS = 200
Announce = Callable[[str], None]
Prepare = Callable[[Process], Awaitable[T]]
"""Makes what the settings promise beyond the services themselves. Nobody is answered before it is done."""
AfterStart = Callable[[Process, T], Coroutine[Any, Any, None]]
UNAVAILABLE_ERRORS = (
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    NotMigrated,
    NotDeclared,
    ServiceUnavailable,
    DeadlineExceeded,
)
"""Backends, their tables and topics may come after us, and be slow when they have: they are waited for."""


def load_master_secret(kernel_settings: Settings) -> str:
    """The secret that is set, or the one that the data folder keeps; made at the first start."""
    if kernel_settings.secret:
        return kernel_settings.secret.get_secret_value()
    path = kernel_settings.data / "secret"
    kernel_settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        new_path = path.with_name(f".secret.{os.getpid()}")
        with open(os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as secret_file:
            secret_file.write(secrets.token_hex(32))
        try:
            os.link(new_path, path)  # whole or not at all: another process may be starting too
        except FileExistsError:
            pass
        finally:
            new_path.unlink()
    return path.read_text().strip()


@asynccontextmanager
async def open_backends(kernel_settings: Settings, announce: Announce) -> AsyncIterator[Backends]:
    """The backends of the settings, else the embedded ones of the data folder, shared with whoever uses it."""
    secret = load_master_secret(kernel_settings)
    database_url = kernel_settings.database_url.get_secret_value() if kernel_settings.database_url else None
    redis_url = kernel_settings.redis_url.get_secret_value() if kernel_settings.redis_url else None
    async with AsyncExitStack() as stack:
        if database_url is None or redis_url is None:
            embedded_servers = await stack.enter_async_context(
                embedded.start(kernel_settings.data, secret=secret, announce=announce)
            )
            database_url, redis_url = (
                database_url or embedded_servers.database_url,
                redis_url or embedded_servers.redis_url,
            )
        jobs_redis_url = kernel_settings.jobs_redis_url.get_secret_value() if kernel_settings.jobs_redis_url else None
        yield Backends(database_url, redis_url, secret, jobs_redis_url, kernel_settings.database_passwords)


class Server(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again when it has ended, and that would end the process before its
    services and backends have.

    It wakes once a second for the Date of its answers, where uvicorn wakes ten times to see whether it shall end: here
    it is told.
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


def open_listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as error:
        exit_with_error(
            f"can't listen on {host}:{port}: {error.strerror}. Stop what uses the port, or set CARAVAN_PORT (0 takes "
            "a free one)."
        )


def handle_signals(action: Callable[[], object]) -> None:
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, action)


async def retry_until_available(action: Callable[[], Awaitable[T]], kernel_settings: Settings, announce: Announce) -> T:
    """The result of an action that is repeated while the backends are away, or their tables and topics not there
    yet.
    """
    deadline, announced_reason = time.monotonic() + kernel_settings.start_seconds, ""
    while True:
        try:
            return await action()
        except UNAVAILABLE_ERRORS as error:
            reason = str(error) or type(error).__name__
            if time.monotonic() > deadline:
                exit_with_error(
                    f"gave up after {kernel_settings.start_seconds:g} s: {reason}; {_suggest_remedy(error)}"
                )
            if reason != announced_reason:
                announce(f"waiting: {reason}")
            announced_reason = reason
            await asyncio.sleep(0.5)


def read_backends(uow: Coroutine[Any, Any, T]) -> T:
    """The result of a command that asks the backends itself and does not wait for them; what they refuse is told in
    words.
    """
    try:
        return uvloop.run(uow)
    except (embedded.AlreadyRunning, embedded.StartError, SettingsError) as error:
        exit_with_error(str(error))
    except UNAVAILABLE_ERRORS as error:
        exit_with_error(f"{str(error) or type(error).__name__}; {_suggest_remedy(error)}")
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        exit_with_error(f"Postgres: {error}; run `caravan migrate`, or correct CARAVAN_DATABASE_URL")


def _suggest_remedy(error: Exception) -> str:
    if isinstance(error, NotMigrated):
        return "run `caravan migrate`"
    return "run one of them" if isinstance(error, NotDeclared) else "start it, or correct its URL"


@asynccontextmanager
async def run_process(
    services: Sequence[Service],
    kernel_settings: Settings,
    backends: Backends,
    url: str,
    address: str,
    announce: Announce,
    prepare: Prepare[T],
) -> AsyncIterator[tuple[Process, T]]:
    async def start_process() -> tuple[Process, T]:
        await (run_migrations(services, backends) if kernel_settings.migrate else check_migrations(services, backends))
        process = Process(
            services,
            kernel_settings,
            backends,
            GET_KEY_SET,
            kernel_settings.public_url or url,
            address=address,
            listeners=list_exchange_readers(services),
        )
        await process.__aenter__()
        try:
            return process, await prepare(process)
        except BaseException:
            await process.stop()
            raise

    announce("databases: migrating" if kernel_settings.migrate else "databases: checking")
    process, prepared = await retry_until_available(start_process, kernel_settings, announce)
    try:
        yield process, prepared
    finally:
        await process.stop()


def list_exchange_readers(services: Sequence[Service]) -> list[Subscription]:
    """Everybody's readers of the exchanges that these services own. Only where there is such an exchange, the others'
    consumers are loaded, and no more of them.
    """
    owned_exchanges = {
        channel.name for service in services for channel in service.channels if isinstance(channel, Exchange)
    }
    names = [name for name in SERVICES if find_spec(f"services.{name}.consumers")] if owned_exchanges else []
    all_readers = [
        consumer.subscription
        for name in names
        for consumer in import_module(f"services.{name}.consumers").consume.handlers
    ]
    return [
        reader for reader in all_readers if isinstance(reader.source, Binding) and reader.channel in owned_exchanges
    ]


@asynccontextmanager
async def serve_apart(
    app: App, process: Process, listener: socket.socket | None, limits: ConnectionLimits
) -> AsyncIterator[None]:
    """An application on a port of its own, where there is one, until the process has stopped."""
    if listener is None:
        yield
        return
    server = _create_server(app, process.kernel_settings, limits)
    serve_task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.stop()
        await serve_task


def _format_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def _choose_connection_limits(process: Process) -> ConnectionLimits:
    """Clients are strangers, and each address may have a part of the connections only; who asks a service alone is a
    gateway of ours.
    """
    kernel_settings, gateway = process.kernel_settings, process.contexts.get("gateway")
    max_connections = min(kernel_settings.connections, max(64, _raise_open_files() - RESERVED_FILES))
    if gateway is None:
        return ConnectionLimits(max_connections, max_head_bytes=MAX_HEAD_BYTES + GATEWAY_HEAD_BYTES)
    return ConnectionLimits(
        max_connections,
        min(kernel_settings.connections_per_address, max_connections),
        gateway.settings.trusted_networks,
    )


def _raise_open_files() -> int:
    """As many as the system lets us have: by default it gives fewer than it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= target:
        return target
    resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return target


def _create_server(app: App, kernel_settings: Settings, limits: ConnectionLimits) -> Server:
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            interface="asgi3",
            server_header=False,
            proxy_headers=False,
            http=partial(BoundedProtocol, limits=limits),  # type: ignore[arg-type]  # whatever makes a protocol will do
            ws="none",
            timeout_graceful_shutdown=int(kernel_settings.drain_seconds),
        )
    )


async def serve(
    names: Sequence[str], kernel_settings: Settings, announce: Announce, prepare: Prepare[T], after_start: AfterStart[T]
) -> None:
    """Run until SIGINT or SIGTERM, then drain."""
    handle_signals(asyncio.current_task().cancel)  # type: ignore[union-attr]  # until there is a server to stop, ending means undoing the start
    services = load_services(names)
    listener = open_listener(kernel_settings.host, kernel_settings.port)
    # Clients reach the gateway's port: what services ask of others that share its process goes to another one.
    inner_listener = open_listener(kernel_settings.host, 0) if "gateway" in names and len(names) > 1 else None
    probe_listener = (
        open_listener(kernel_settings.host, kernel_settings.probe_port) if kernel_settings.probe_port else None
    )
    async with (
        open_backends(kernel_settings, announce) as backends,
        run_process(
            services,
            kernel_settings,
            backends,
            _format_url(listener),
            _format_url(inner_listener or listener),
            announce,
            prepare,
        ) as (process, prepared),
        serve_apart(process.app.serve_probes, process, probe_listener, ConnectionLimits(MAX_PROBE_CONNECTIONS)),
        serve_apart(
            process.app,
            process,
            inner_listener,
            ConnectionLimits(kernel_settings.connections, max_head_bytes=MAX_HEAD_BYTES + GATEWAY_HEAD_BYTES),
        ),
    ):
        server = _create_server(
            process.app.serve_public if "gateway" in names else process.app,
            kernel_settings,
            _choose_connection_limits(process),
        )
        handle_signals(server.stop)
        serve_task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serve_task.done():
            await asyncio.sleep(0.01)
        follow_task: asyncio.Task[None] = asyncio.create_task(after_start(process, prepared))
        try:
            await serve_task
        finally:
            follow_task.cancel()
            await asyncio.gather(follow_task, return_exceptions=True)


def start(
    names: Sequence[str], kernel_settings: Settings, announce: Announce, prepare: Prepare[T], after_start: AfterStart[T]
) -> None:
    telemetry.configure_logs(kernel_settings.log_level, kernel_settings.log_format)
    try:
        uvloop.run(serve(names, kernel_settings, announce, prepare, after_start))
    except asyncio.CancelledError:
        exit_with_error("stopped before it had started")
    except (embedded.AlreadyRunning, embedded.StartError, SettingsError, TopologyError) as error:
        exit_with_error(str(error))


def choose_services(names: Sequence[str]) -> list[str]:
    """The services by name; `all` is every one. Fails on a name that doesn't exist."""
    if "all" in names:
        return list(SERVICES)
    unknown = [name for name in names if name not in SERVICES]
    if unknown:
        exit_with_error(f"no service {', '.join(unknown)}; there are: {', '.join(SERVICES)}, or all")
    return list(dict.fromkeys(names))


def resolve_data_path(kernel_settings: Settings) -> Path:
    return kernel_settings.data.expanduser().resolve()
