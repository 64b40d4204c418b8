"""Bounds on what a WebSocket may cost: uvicorn's protocol with limits on messages, fragments and time.

`connections.py` makes one of a connection whose request asks for it, on the one path that is declared for it. Nothing
is compressed: a small frame could hold a large message, and each socket would keep a window for it.
"""

import asyncio
import logging
from asyncio import TimerHandle
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Response
from websockets.server import ServerProtocol

from caravan.runtime.connection_problems import PROBLEM_TYPE, build_document

MAX_MESSAGE_BYTES = 128 * 1024
MAX_FRAGMENTS = 64
"""Of one message: each costs memory, also when it is empty."""
MAX_WAITING = 64
"""Messages that have come and were not taken yet. No more are read meanwhile, so these are those that came at once."""
PING_SECONDS = 15.0
"""How often an idle client is asked whether it is there: proxies close what is silent, many of them after a minute."""
PONG_SECONDS = 20.0
CLOSE_SECONDS = 5.0
"""How long the client may take to answer the end, or to take what was written to it."""
DRAIN_CODE = CloseCode.SERVICE_RESTART
"""Of the `websocket.disconnect` that tells the application that the server stops. It may still send, and closes."""
_LOG = logging.getLogger("websockets.server")


class _Handshake(ServerProtocol):
    """Says with a problem document what is wrong with a handshake."""

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        response = super().reject(status, text)
        title = HTTPStatus(status).phrase.capitalize()
        response.body, _ = build_document(response.status_code, title, " ".join(text.split()))
        for name, value in (("Content-Type", PROBLEM_TYPE), ("Content-Length", str(len(response.body)))):
            del response.headers[name]
            response.headers[name] = value
        return response


class BoundedWebSocket(WebSocketsSansIOProtocol):
    def __init__(self, *args: Any, unread_seconds: float, on_lost: Callable[[], None], **kwargs: Any) -> None:
        """`unread_seconds`: how long the client may not take what is written to it."""
        super().__init__(*args, **kwargs)
        self._unread_seconds = unread_seconds
        self._on_lost = on_lost
        self._write_timer: TimerHandle | None = None
        self._abort_timer: TimerHandle | None = None
        self.logger = _LOG
        self.conn = _Handshake(max_size=MAX_MESSAGE_BYTES, logger=_LOG)
        self.ping_interval, self.ping_timeout, self.close_timeout = PING_SECONDS, PONG_SECONDS, CLOSE_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._write_timer, self._abort_timer):
            if timer is not None:
                timer.cancel()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated and not self.handshake_complete:
            self.transport.abort()  # a client waits for the answer before it sends frames
            return
        if self.close_sent and self.conn.eof_sent:
            return
        super().data_received(data)
        self._abort_closing()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self._unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def handle_ping(self) -> None:
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set():  # who doesn't read is owed nothing, and could fill our memory with it
            self.transport.write(pong)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self._fail(CloseCode.MESSAGE_TOO_BIG, f"a message may have {MAX_FRAGMENTS} fragments")
        elif not self.close_sent:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        super().send_receive_event_to_app()
        if self.queue.qsize() > MAX_WAITING and not self.close_sent:
            self._fail(CloseCode.POLICY_VIOLATION, f"more than {MAX_WAITING} messages came at once; wait for answers")

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._abort_closing()

    def shutdown(self) -> None:
        """The server stops: the application ends what it has begun, then closes."""
        if self.handshake_complete and not self.close_sent and not self.transport.is_closing():
            self.queue.put_nowait({"type": "websocket.disconnect", "code": DRAIN_CODE})
        elif not self.transport.is_closing():
            super().shutdown()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._abort_closing()

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        if self.disconnected or self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = (
                True  # it was answered; else the end of the application would be taken for a fault
            )
        if self.close_timer is not None:  # which would wait for a client that takes nothing
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def handle_parser_exception(self) -> None:
        assert self.conn.close_sent is not None
        self._end(self.conn.close_sent.code, self.conn.close_sent.reason)

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.conn.fail(code, reason)
        self._end(code, reason)

    def _end(self, code: int, reason: str) -> None:
        """What the client still sends is thrown away for a moment: closed at once, the connection would be reset before
        it has read why.
        """
        self.frames = []
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.close_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def _abort_closing(self) -> None:
        """A transport that is closed waits for what was written to be taken, for as long as that takes."""
        if self.transport.is_closing() and self._abort_timer is None and not self.disconnected:
            self._abort_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
