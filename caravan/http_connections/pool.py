"""Which connections there are, and who gets one."""

import asyncio
import ssl
from collections import deque
from contextlib import suppress

import httpx2

from caravan.http_connections.connection import Answer, Connection, Origin
from caravan.http_connections.request import write_request

IDLE_SECONDS = 3.0
"""So long a connection is kept for the next request: less than the five seconds after which the servers close theirs,
so that none is sent into a connection that is just being closed.
"""


class KeptConnections(httpx2.AsyncBaseTransport):
    """At most `max_connections` at a time, to whatever origins. Failures are httpx2's own errors."""

    def __init__(self, max_connections: int, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: whose certificates to trust; by default those that httpx2 trusts."""
        self._tls = tls
        self._free_slots = max_connections
        self._waiters: deque[tuple[Origin, asyncio.Future[Connection | None]]] = deque()
        """Each gets a connection to where it wants, or the place of one that was closed."""
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        data = write_request(request, await request.aread())
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        connection = await self._acquire(request.url, timeouts)
        try:
            answer = Answer(connection, timeouts.get("read"))
            connection.begin(answer, is_head=request.method == "HEAD")
            with suppress(httpx2.WriteError):  # a server may answer before it has read all
                await connection.write(data, timeouts.get("write"))
            await answer.wait(lambda: answer.has_headers)
        except BaseException:
            connection.abort()
            raise
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=answer,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": answer.reason},
        )

    async def aclose(self) -> None:
        for connection in list(self._open):
            connection.abort()

    async def _acquire(self, url: httpx2.URL, timeouts: dict[str, float | None]) -> Connection:
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        since = asyncio.get_running_loop().time() - IDLE_SECONDS
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle.pop()
            if connection.is_usable and connection.idle_since > since:
                return connection
            connection.abort()
        self._close_expired(since)
        kept = await self._wait_turn(origin, timeouts.get("pool"))
        if kept is not None:
            # It may have been lost since it was given.
            return kept if kept.is_usable else await self._acquire(url, timeouts)
        try:
            connection = await self._connect(origin, timeouts.get("connect"))
        except BaseException:
            self._give_slot()
            raise
        self._open.add(connection)
        return connection

    def _close_expired(self, since: float) -> None:
        """Also those to servers that are gone and will never be asked again."""
        for origin, idle in list(self._idle.items()):
            for connection in [each for each in idle if each.idle_since <= since]:
                connection.abort()
            if not idle:
                del self._idle[origin]

    async def _connect(self, origin: Origin, seconds: float | None) -> Connection:
        scheme, host, port = origin
        loop = asyncio.get_running_loop()
        tls = None
        if scheme == "https":
            tls = self._tls = self._tls or httpx2.create_ssl_context()
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, origin), host, port, ssl=tls, server_hostname=host if tls else None
                )
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"no connection within {seconds} s") from error
        except (OSError, ssl.SSLError, ValueError) as error:
            raise httpx2.ConnectError(str(error) or repr(error)) from error
        if not connection.is_usable:
            raise httpx2.ConnectError("the connection was reset as soon as it was made")
        return connection

    async def _wait_turn(self, origin: Origin, seconds: float | None) -> Connection | None:
        """A connection that somebody gave back, or None and the right to open one."""
        if not self._free_slots and (idle := next(filter(None, self._idle.values()), None)):
            idle.pop(0).abort()
        if self._free_slots:
            self._free_slots -= 1
            return None
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append((origin, waiter))
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                given = waiter.result()
                self._give_slot() if given is None else self.keep(given)
            if isinstance(error, TimeoutError):
                raise httpx2.PoolTimeout(f"no connection was free within {seconds} s") from error
            raise

    def _find_waiter(self) -> tuple[Origin, "asyncio.Future[Connection | None]"] | None:
        """Who has waited longest."""
        while self._waiters:
            if not self._waiters[0][1].done():
                return self._waiters[0]
            self._waiters.popleft()
        return None

    def _give_slot(self) -> None:
        if waiting := self._find_waiter():
            waiting[1].set_result(None)
        else:
            self._free_slots += 1

    def keep(self, connection: Connection) -> None:
        waiting = self._find_waiter()
        if waiting is None:
            self._idle.setdefault(connection.origin, []).append(connection)
        elif waiting[0] == connection.origin and connection.is_usable:
            waiting[1].set_result(connection)
        else:
            connection.abort()

    def forget(self, connection: Connection) -> None:
        idle = self._idle.get(connection.origin, [])
        if connection in idle:
            idle.remove(connection)
        if connection in self._open:
            self._open.discard(connection)
            self._give_slot()
