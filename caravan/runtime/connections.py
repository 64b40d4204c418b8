"""Bounds on what a connection may cost before there is a request: uvicorn's protocol with limits on heads, time and the
number of connections, which httptools has none of.
"""

from asyncio import TimerHandle, Transport
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from caravan.runtime.connection_limits import MAX_HEAD_BYTES, ConnectionLimits
from caravan.runtime.connection_problems import build_response
from caravan.runtime.websocket import BoundedWebSocket
from caravan.telemetry import log

_MAX_HEADERS = 100
HEAD_SECONDS = 10.0
"""How long a head may take to come, from the connection's opening or from the head's first byte."""
UNREAD_SECONDS = 20.0
"""How long a client may not take what is written to it."""
_CLOSE_DELAY_SECONDS = 2.0
"""How long what a refused client still sends is thrown away: closed at once, the connection would be reset before it
has read why.
"""
_MAX_PIPELINED = 32
"""Requests that may wait on one connection for the answers to those before them: each costs more memory than its few
bytes say.
"""


class BoundedProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, limits: ConnectionLimits, websocket_path: str = "", **kwargs: Any) -> None:
        """`websocket_path`: the one path where a request may ask for a WebSocket."""
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._websocket_path = websocket_path.encode()
        self._address: str | None = None
        self._unparsed_bytes = 0
        """Bytes since the parser last had something whole: a head, a part of a body."""
        self._head_started_at = 0.0
        self._head_timer: TimerHandle | None = None
        self._write_timer: TimerHandle | None = None
        self._is_refused = False
        self._running_cycle: RequestResponseCycle | None = None
        """The request that is being answered; `cycle` is the last one that was read."""
        self._is_upgrading = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limits = self._limits
        if len(self.connections) > limits.max_connections:
            self._refuse_connection(503, "Unavailable", "too many connections are open; try again")
            return
        self._address = limits.find_counted_address(self.client[0] if self.client else "")
        if self._address is not None and not limits.add_connection(self._address):
            self._refuse_connection(
                429, "Too many requests", "too many connections are open from this address; close some"
            )
            return
        self._head_started_at = self.loop.time()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._check_head_deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._cancel_timers()
        self.pipeline.clear()
        self._disconnect_running()
        self._limits.remove_connection(self._address)

    def _cancel_timers(self) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        size = len(data)
        self._unparsed_bytes += size
        self._unset_keepalive_if_required()
        try:
            self._feed_parser(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        if self._unparsed_bytes and not self._is_refused:
            self._check_unfinished_head(size)

    def _feed_parser(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            self._is_upgrading = False
            if self._is_refused:
                return
            if self._is_for_websocket():
                self._open_websocket(rest)
                return
            # There is no other protocol here, so that it is an ordinary request: read once more, without the offer,
            # which ends the parser's work.
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as the server's own
            self._feed_parser(self._rebuild_head(without=b"upgrade") + rest)

    def _rebuild_head(self, *, without: bytes = b"") -> bytes:
        lines = [b"%s %s HTTP/1.1" % (self.scope["method"].encode(), self.url)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != without]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _is_for_websocket(self) -> bool:
        return (
            self._websocket_path != b""
            and self.url.partition(b"?")[0] == self._websocket_path
            and self.scope["method"] == "GET"
            and any(name == b"upgrade" and value.lower() == b"websocket" for name, value in self.headers)
        )

    def _open_websocket(self, rest: bytes) -> None:
        """Give the connection to the other protocol, which reads the head once more."""
        if b"?" in self.url:
            self._refuse_connection(
                400, "Bad request", "the address of a WebSocket takes no query: what stands in addresses is logged"
            )
            return
        if rest or (self.cycle is not None and not self.cycle.response_complete):
            self._refuse_connection(
                400, "Bad request", "before the answer to its handshake, a WebSocket sends nothing else"
            )
            return
        protocol = BoundedWebSocket(
            self.config,
            self.server_state,
            self.app_state,
            unread_seconds=UNREAD_SECONDS,
            on_lost=partial(self._limits.remove_connection, self._address),
        )
        protocol.connection_made(self.transport)
        protocol.data_received(self._rebuild_head())
        if not protocol.handshake_initiated:
            self.connections.discard(protocol)
            self.send_400_response("")
            return
        self.connections.discard(self)
        self._cancel_timers()
        self._unparsed_bytes = 0
        self.transport.set_protocol(protocol)

    def _check_unfinished_head(self, size: int) -> None:
        if self._unparsed_bytes > self._limits.max_head_bytes:
            self._refuse_head()
        elif self._unparsed_bytes == size:
            self._head_started_at = self.loop.time()
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self._check_head_deadline)

    def _check_head_deadline(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or (self.cycle is not None and not self._unparsed_bytes):
            return
        seconds_left = self._head_started_at + HEAD_SECONDS - self.loop.time()
        if seconds_left > 0.001:
            self._head_timer = self.loop.call_later(seconds_left, self._check_head_deadline)
        elif self._unparsed_bytes:
            self._refuse_connection(
                408, "The request came too slowly", f"its head was not complete after {HEAD_SECONDS:g} s"
            )
        else:
            self.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        if self._is_refused:
            return
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._refuse_connection(
                429, "Too many requests", f"at most {_MAX_PIPELINED} requests wait on one connection"
            )
            return
        if len(self.headers) > _MAX_HEADERS or (
            self._unparsed_bytes > self._limits.max_head_bytes and self._measure_head() > self._limits.max_head_bytes
        ):
            self._refuse_head()
            return
        if self.parser.should_upgrade():
            self.scope["method"] = self.parser.get_method().decode("ascii")
            self._is_upgrading = self.scope["method"] != "CONNECT"
            if not self._is_upgrading:
                self._refuse_connection(405, "Method not allowed", "this is no proxy")
            return
        self._unparsed_bytes = 0
        if not self.url.startswith((b"/", b"*")):
            self._apply_url_host()
        super().on_headers_complete()
        self.headers = []  # trailers, which come after the body, are no headers of a request that has been passed on

    def _apply_url_host(self) -> None:
        """Whom a URL names counts, whatever the header says."""
        url = httptools.parse_url(self.url)
        if url.host:
            host = b"[%s]" % url.host if b":" in url.host else url.host
            self.headers[:] = [header for header in self.headers if header[0] != b"host"]
            self.headers.append((b"host", host if url.port is None else b"%s:%d" % (host, url.port)))

    def _measure_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_upgrading:
            return
        self._unparsed_bytes = 0
        if not self._is_refused:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def _disconnect_running(self) -> None:
        """Tell who answers that nobody is there any more: the server tells it of the last request that was read
        alone.
        """
        if self._running_cycle is not None and not self._running_cycle.response_complete:
            self._running_cycle.disconnected = True
            self._running_cycle.message_event.set()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        cycle = self.cycle
        if cycle.response_complete and cycle.more_body:
            self.loop.call_later(self.timeout_keep_alive, self._close_unread_body, cycle)

    def _close_unread_body(self, cycle: Any) -> None:
        """Nobody waits for the rest of a body whose request has been answered."""
        if self.cycle is cycle and not self.transport.is_closing():
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def send_400_response(self, msg: str) -> None:
        if not self._is_refused:  # else the parser stumbles over what it was told to stop at
            self._refuse_connection(400, "Bad request", "this is not HTTP as RFC 9112 has it")

    def _refuse_head(self) -> None:
        self._refuse_connection(
            431,
            "Request header fields too large",
            f"at most {MAX_HEAD_BYTES // 1024} KiB in {_MAX_HEADERS} header fields are taken",
        )

    def _refuse_connection(self, status: int, title: str, detail: str) -> None:
        """Answer, unless an answer to an earlier request is due or under way, and close once the client had a moment to
        read it.
        """
        self._is_refused = True
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.transport.is_closing():
            return
        log.info("connection refused", status=status, reason=detail)
        is_answering = self._running_cycle is not None and not self._running_cycle.response_complete
        if (
            is_answering
            and self._running_cycle is self.cycle
            and self.cycle.more_body
            and not self.cycle.response_started
        ):
            is_answering = False  # it is this very request that is not sound
            self._disconnect_running()
        if not is_answering:
            self.transport.write(build_response(status, title, detail))
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.loop.call_later(_CLOSE_DELAY_SECONDS, self.transport.abort)
        else:
            self.transport.abort()
