"""Pools of connections to Redis, by TLS where the URL says so (`rediss://`), with certificates that may be renewed.

The process's cache and change notifications (`caravan/runtime/process.py`) and the jobs (`caravan/jobs/redis.py`) make
theirs here.
"""

import ssl
from typing import Any, TypeVar

from redis.asyncio import Connection, ConnectionPool, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from caravan.tls import CertificateFiles, TlsError, explain_failure, get_context

T = TypeVar("T", bound=ConnectionPool)
_SETTING = "CARAVAN_REDIS_URL or CARAVAN_JOBS_REDIS_URL"


class _ClosedTransportMixin:
    """On uvloop a write to a transport that was closed meanwhile, because the peer has reset it, raises RuntimeError.
    The client passes that on as it is: it does not try again, and none of our callers expects it.
    """

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*arguments, **options)  # type: ignore[misc]
        except RuntimeError as error:
            raise RedisConnectionError(f"the connection was closed: {error}") from error


class _PlainConnection(_ClosedTransportMixin, Connection):
    pass


class _TlsConnection(_ClosedTransportMixin, SSLConnection):
    """With a context of ours: the client's own is made once and kept, whatever becomes of its files."""

    def __init__(self, *, files: CertificateFiles, **options: Any) -> None:
        super().__init__(**options)
        self._files = files
        self.ssl_context.context = get_context(files)

    async def _connect(self) -> None:
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except ssl.SSLError as error:
            # The client makes its own text of an error's number and text.
            raise TlsError(error.errno, explain_failure(error, _SETTING, self._files)) from error


def create_pool(pool_class: type[T], url: str, **options: Any) -> T:
    pool = pool_class.from_url(url, **options)
    if pool.connection_class is Connection:
        pool.connection_class = _PlainConnection
    elif pool.connection_class is SSLConnection:
        pool.connection_class = _TlsConnection
        pool.connection_kwargs["files"] = CertificateFiles.from_url(url)
    return pool
