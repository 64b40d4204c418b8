"""Serve some services in this process: open the listeners and the backends, migrate, run, answer until a signal.

`caravan run` and `caravan up` call `start`; the mechanism is in `caravan/runtime`, which knows no service's name.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

import asyncpg
import uvloop

from caravan import embedded, telemetry
from caravan.bus import Subscription
from caravan.bus.topology import TopologyError
from caravan.environment import SettingsError
from caravan.jobs import ServerTooOld
from caravan.messages import Binding, Exchange
from caravan.runtime import Backends, Process, check_migrations, run_migrations
from caravan.runtime.server import (
    PROBE_LIMITS,
    ListenError,
    create_server,
    format_url,
    handle_signals,
    limit_connections,
    limit_internal_connections,
    open_listener,
    serve_apart,
)
from caravan.runtime.startup import (
    UNAVAILABLE_ERRORS,
    Announce,
    StartTimeout,
    explain_unavailable,
    open_backends,
    retry_until_available,
)
from caravan.service import Service
from caravan.settings import Settings
from cli.terminal import exit_with_error
from services.identity.client import ACCEPT_TOKEN, GET_KEY_SET
from services.registry import SERVICES, load_services

T = TypeVar("T")
Prepare = Callable[[Process], Awaitable[T]]
"""Makes what the settings promise beyond the services themselves. Nobody is answered before it is done."""
AfterStart = Callable[[Process, T], Coroutine[Any, Any, None]]
START_ERRORS = (
    embedded.AlreadyRunning,
    embedded.StartError,
    ServerTooOld,
    SettingsError,
    TopologyError,
    ListenError,
    StartTimeout,
)
"""What a command ends with in words, without a traceback."""


def choose_services(names: Sequence[str]) -> list[str]:
    """The services by name; `all` is every one. Fails on a name that doesn't exist."""
    if "all" in names:
        return list(SERVICES)
    unknown = [name for name in names if name not in SERVICES]
    if unknown:
        exit_with_error(f"no service {', '.join(unknown)}; there are: {', '.join(SERVICES)}, or all")
    return list(dict.fromkeys(names))


def start(
    names: Sequence[str], kernel_settings: Settings, announce: Announce, prepare: Prepare[T], after_start: AfterStart[T]
) -> None:
    telemetry.configure_logs(kernel_settings.log_level, kernel_settings.log_format)
    try:
        uvloop.run(serve(names, kernel_settings, announce, prepare, after_start))
    except asyncio.CancelledError:
        exit_with_error("stopped before it had started")
    except START_ERRORS as error:
        exit_with_error(str(error))


def read_backends(command: Coroutine[Any, Any, T]) -> T:
    """The result of a command that reads the backends itself and does not wait for them; what they refuse is printed
    in words.
    """
    try:
        return uvloop.run(command)
    except (embedded.AlreadyRunning, embedded.StartError, SettingsError) as error:
        exit_with_error(str(error))
    except UNAVAILABLE_ERRORS as error:
        exit_with_error(explain_unavailable(error))
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        exit_with_error(f"Postgres: {error}; run `caravan migrate`, or correct CARAVAN_DATABASE_URL")


async def serve(
    names: Sequence[str], kernel_settings: Settings, announce: Announce, prepare: Prepare[T], after_start: AfterStart[T]
) -> None:
    """Run until SIGINT or SIGTERM, then drain."""
    # Until there is a server to stop, ending means undoing the start.
    handle_signals(asyncio.current_task().cancel)  # type: ignore[union-attr]
    services = load_services(names)
    host, has_gateway = kernel_settings.host, "gateway" in names
    listener = open_listener(host, kernel_settings.port)
    # Clients reach the gateway's port: what services ask of others that share its process goes to another one.
    internal_listener = open_listener(host, 0) if has_gateway and len(names) > 1 else None
    probe_listener = open_listener(host, kernel_settings.probe_port) if kernel_settings.probe_port else None
    url, address = format_url(listener), format_url(internal_listener or listener)
    async with (
        open_backends(kernel_settings, announce) as backends,
        run_process(services, kernel_settings, backends, url, address, announce, prepare) as (process, prepared),
        serve_apart(process.app.serve_probes, probe_listener, kernel_settings, PROBE_LIMITS),
        serve_apart(process.app, internal_listener, kernel_settings, limit_internal_connections(kernel_settings)),
    ):
        server = create_server(
            process.app.serve_public if has_gateway else process.app,
            kernel_settings,
            limit_connections(
                kernel_settings, process.contexts["gateway"].settings.trusted_networks if has_gateway else None
            ),
            websocket_path=next((service.websocket_path for service in services if service.websocket_path), ""),
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
            ACCEPT_TOKEN,
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
