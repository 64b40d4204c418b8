"""Listening: sockets, uvicorn with bounds on its connections, and the signals that end it.

`cli/serve.py` opens the listeners before the process starts, so that whoever comes early waits instead of being
refused, and serves the process's applications on them.
"""

import asyncio
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

import uvicorn

from caravan.http import App
from caravan.http.client_ip import Networks
from caravan.runtime.connection_limits import GATEWAY_HEAD_BYTES, MAX_HEAD_BYTES, ConnectionLimits
from caravan.runtime.connections import BoundedProtocol
from caravan.settings import Settings

_MAX_OPEN_FILES = 65_536
_RESERVED_FILES = 512
"""For the backends, for services that are called, and for what is read and written."""
PROBE_LIMITS = ConnectionLimits(200)


class ListenError(Exception):
    """The address can't be listened on."""


class Server(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again when it has ended, and that would end the process before its
    services and backends have.

    It wakes once a second for the Date header of its responses, where uvicorn wakes ten times to see whether it shall
    end: `stop` wakes this one.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop_requested = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stop_requested.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stop_requested.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def create_server(app: App, kernel_settings: Settings, limits: ConnectionLimits, *, websocket_path: str = "") -> Server:
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            interface="asgi3",
            server_header=False,
            proxy_headers=False,
            # Whatever makes a protocol will do.
            http=partial(BoundedProtocol, limits=limits, websocket_path=websocket_path),  # type: ignore[arg-type]
            ws="none",  # the protocol makes its WebSockets itself
            timeout_graceful_shutdown=int(kernel_settings.drain_seconds),
        )
    )


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ListenError."""
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as error:
        raise ListenError(
            f"can't listen on {host}:{port}: {error.strerror}. Stop what uses the port, or set CARAVAN_PORT (0 takes "
            "a free one)."
        ) from error


def format_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def handle_signals(action: Callable[[], object]) -> None:
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, action)


@asynccontextmanager
async def serve_apart(
    app: App, listener: socket.socket | None, kernel_settings: Settings, limits: ConnectionLimits
) -> AsyncIterator[None]:
    """An application on a port of its own, where there is one, until the block ends."""
    if listener is None:
        yield
        return
    server = create_server(app, kernel_settings, limits)
    serve_task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.stop()
        await serve_task


def limit_internal_connections(kernel_settings: Settings) -> ConnectionLimits:
    """For a port that only processes of ours reach: one peer may have all connections."""
    return ConnectionLimits(kernel_settings.max_connections, max_head_bytes=MAX_HEAD_BYTES + GATEWAY_HEAD_BYTES)


def limit_connections(kernel_settings: Settings, trusted_networks: Networks | None) -> ConnectionLimits:
    """`trusted_networks` are those of the proxies before a gateway: its clients are strangers, and each address may
    have a part of the connections only. None: who connects is a gateway of ours.
    """
    max_connections = min(kernel_settings.max_connections, max(64, _raise_open_files() - _RESERVED_FILES))
    if trusted_networks is None:
        return ConnectionLimits(max_connections, max_head_bytes=MAX_HEAD_BYTES + GATEWAY_HEAD_BYTES)
    return ConnectionLimits(
        max_connections, min(kernel_settings.max_connections_per_address, max_connections), trusted_networks
    )


def _raise_open_files() -> int:
    """As many as the system lets us have: by default it gives fewer than it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= target:
        return target
    resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return target
