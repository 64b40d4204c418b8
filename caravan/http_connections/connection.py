"""One connection, and the answer that comes on it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import httptools
import httpx2

MAX_HEADER_BYTES = 65_536
"""So much may come before an answer's headers are complete."""
_BUFFERED_BYTES = 65_536
"""So much of a body is read ahead of whoever takes it."""

Origin = tuple[str, str, int]
"""Scheme, host and port."""


class Owner(Protocol):
    def keep(self, connection: "Connection") -> None:
        """The connection is free for another request."""

    def forget(self, connection: "Connection") -> None:
        """The connection is closed."""


class Answer(httpx2.AsyncByteStream):
    """What comes back on a connection, filled by it."""

    def __init__(self, connection: "Connection", read_seconds: float | None) -> None:
        self._connection = connection
        self._read_seconds = read_seconds
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_headers = self.is_complete = False
        self.error: httpx2.TransportError | None = None
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self, is_there: Callable[[], bool]) -> None:
        """Until it is there. Raises ReadTimeout, or what the connection ended with."""
        if is_there():
            return
        try:
            async with asyncio.timeout(self._read_seconds):
                while not is_there():
                    if self.error is not None:
                        raise self.error
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
        except TimeoutError as error:
            raise httpx2.ReadTimeout(f"nothing came for {self._read_seconds} s") from error
        finally:
            self._waiter = None

    def notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def add_chunk(self, chunk: bytes) -> bool:
        """Whether there is as much now as may wait."""
        self._chunks.append(chunk)
        self._buffered += len(chunk)
        self.notify()
        return self._buffered > _BUFFERED_BYTES

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await self.wait(lambda: bool(self._chunks) or self.is_complete)
            if not self._chunks:
                return
            chunk = self._chunks.popleft()
            self._buffered -= len(chunk)
            if self._buffered <= _BUFFERED_BYTES and not self.is_complete:
                self._connection.resume()
            yield chunk

    async def aclose(self) -> None:
        if not self.is_complete:
            self._connection.abort()


class Connection(asyncio.Protocol):
    def __init__(self, owner: Owner, origin: Origin) -> None:
        self._owner = owner
        self.origin = origin
        self.idle_since = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._is_head = False
        self._has_length = False
        self._bytes_before_headers = 0
        self._is_paused = False
        self._writable: asyncio.Future[None] | None = None

    @property
    def is_usable(self) -> bool:
        """The peer has not closed it, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, answer: Answer, *, is_head: bool) -> None:
        self._answer, self._is_head, self._has_length, self._bytes_before_headers = answer, is_head, False, 0

    async def write(self, data: bytes, seconds: float | None) -> None:
        """On a usable connection. Raises WriteError when it is lost meanwhile, which the answer knows, too."""
        assert self._transport is not None
        self._transport.write(data)
        if self._writable is not None:
            try:
                async with asyncio.timeout(seconds):
                    await self._writable
            except TimeoutError as error:
                raise httpx2.WriteTimeout(f"the peer took nothing for {seconds} s") from error

    def abort(self) -> None:
        """Whoever waits for an answer is told."""
        answer, self._answer = self._answer, None
        if answer is not None and not answer.is_complete:
            answer.error = answer.error or httpx2.ReadError("the connection was closed by its client")
            answer.notify()
        if self._transport is not None:
            self._transport.abort()
        self._owner.forget(self)

    def resume(self) -> None:
        if self._is_paused and self._transport is not None and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    # asyncio's protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        answer, self._answer = self._answer, None
        self._transport = None
        if self._writable is not None and not self._writable.done():
            self._writable.set_exception(httpx2.WriteError("the connection was lost"))
        if answer is not None:
            if error is None and answer.has_headers and not self._has_length:
                answer.is_complete = True
            elif error is None:
                answer.error = httpx2.RemoteProtocolError("the connection was closed before all of the answer had come")
            else:
                answer.error = httpx2.ReadError(str(error) or repr(error))
            answer.notify()
        self._owner.forget(self)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nothing was asked
            self.abort()
            return
        try:
            self._parser.feed_data(data)
            if not answer.has_headers:  # the parser keeps what has come of a header
                self._bytes_before_headers += len(data)
                if self._bytes_before_headers > MAX_HEADER_BYTES:
                    raise httptools.HttpParserError(f"over {MAX_HEADER_BYTES} bytes of headers")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            answer.error = httpx2.RemoteProtocolError(f"no HTTP/1.1: {error}")
            self.abort()

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # the parser's

    def on_message_begin(self) -> None:
        if self._answer is None:
            raise httptools.HttpParserError("nothing was asked")

    def on_status(self, reason: bytes) -> None:
        if self._answer is not None:
            self._answer.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is None:
            return
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True
        self._answer.headers.append((name, value))

    def on_headers_complete(self) -> None:
        answer = self._answer
        if answer is None:
            return
        status = self._parser.get_status_code()
        if status < 200:  # more follows
            answer.headers, answer.reason, self._has_length = [], b"", False
            return
        answer.status, answer.has_headers = status, True
        if self._is_head:  # the parser waits for the body that the length promises
            answer.is_complete = True
            self.abort()
        answer.notify()

    def on_body(self, chunk: bytes) -> None:
        is_enough = self._answer is not None and self._answer.add_chunk(chunk)
        if is_enough and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or not answer.has_headers:
            return
        self._answer = None
        answer.is_complete = True
        answer.notify()
        self.resume()
        if self.is_usable and self._writable is None and self._parser.should_keep_alive():
            self.idle_since = asyncio.get_running_loop().time()
            self._owner.keep(self)
        else:
            self.abort()
