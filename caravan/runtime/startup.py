"""What comes before a process runs: the backends are found or started, and waited for.

The commands use it; a `Process` takes the `Backends` as given.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

import asyncpg

from caravan import embedded
from caravan.bus.topology import NotDeclared
from caravan.database.migrations import NotMigrated
from caravan.errors import DeadlineExceeded, ServiceUnavailable
from caravan.runtime.backends import Backends
from caravan.settings import Settings
from caravan.telemetry import log
from caravan.tls import describe_unverified

T = TypeVar("T")
Announce = Callable[[str], None]
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


class StartTimeout(Exception):
    """The backends were not available in time."""


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
            with suppress(FileExistsError):
                os.link(new_path, path)  # whole or not at all: another process may be starting too
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
            servers = await stack.enter_async_context(
                embedded.start(kernel_settings.data, secret=secret, announce=announce)
            )
            database_url, redis_url = database_url or servers.database_url, redis_url or servers.redis_url
        if weakness := describe_unverified(database_url):
            log.warning(
                f"CARAVAN_DATABASE_URL has {weakness}, so nobody checks the server's certificate: whoever is between "
                "here and Postgres can read and change everything; use sslmode=verify-full, or sslmode=disable on a "
                "network that you trust"
            )
        jobs_redis_url = kernel_settings.jobs_redis_url.get_secret_value() if kernel_settings.jobs_redis_url else None
        yield Backends(database_url, redis_url, secret, jobs_redis_url, kernel_settings.database_passwords)


async def retry_until_available(action: Callable[[], Awaitable[T]], kernel_settings: Settings, announce: Announce) -> T:
    """The result of an action that is repeated while the backends are unavailable, or their tables and topics not
    there yet. Raises StartTimeout.
    """
    deadline, announced_reason = time.monotonic() + kernel_settings.start_seconds, ""
    while True:
        try:
            return await action()
        except UNAVAILABLE_ERRORS as error:
            reason = str(error) or type(error).__name__
            if time.monotonic() > deadline:
                raise StartTimeout(
                    f"gave up after {kernel_settings.start_seconds:g} s: {explain_unavailable(error)}"
                ) from error
            if reason != announced_reason:
                announce(f"waiting: {reason}")
            announced_reason = reason
            await asyncio.sleep(0.5)


def explain_unavailable(error: Exception) -> str:
    """The reason, and what to do about it."""
    if isinstance(error, NotMigrated):
        remedy = "run `caravan migrate`"
    else:
        remedy = "run one of them" if isinstance(error, NotDeclared) else "start it, or correct its URL"
    return f"{str(error) or type(error).__name__}; {remedy}"
