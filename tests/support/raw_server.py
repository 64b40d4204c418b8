"""The fixture `server`: a server with small bounds, and what a client sees that writes to it byte by byte."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from caravan.runtime import connections
from caravan.runtime.connection_limits import ConnectionLimits
from caravan.runtime.connections import BoundedProtocol
from tests.services.gateway.stand_ins import listening


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the number of header fields; `/large` with more than any buffer holds; `/late` after the body has
    come; `/body` and `/host` with these; `/live` until the client has gone. A WebSocket gets its messages back.
    """
    if scope["type"] == "websocket":
        await _echo(receive, send)
        return
    whole = b""
    if scope["path"] in ("/late", "/body"):
        message: Message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            whole += message.get("body", b"")
    if scope["path"] in ("/body", "/host"):
        host = next((value for name, value in scope["headers"] if name == b"host"), b"none")
        text = whole if scope["path"] == "/body" else host
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
        await send({"type": "http.response.body", "body": text})
        return
    if scope["path"] == "/live":
        await _live(receive, send)
        return
    body = b"x" * 32_000_000 if scope["path"] == "/large" else str(len(scope["headers"])).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


SOCKET_PATH = "/socket"
LIVE: set[object] = set()
ENDS: list[Message] = []
"""The last message of each WebSocket."""


async def _echo(receive: Receive, send: Send) -> None:
    """Until the client leaves or the server stops; `flood` is answered with more than any buffer holds."""
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while (message := await receive())["type"] == "websocket.receive":
            text = message.get("text") or ""
            for _ in range(20_000 if text == "flood" else 1):
                await send({"type": "websocket.send", "text": text * (1000 if text == "flood" else 1)})
        ENDS.append(message)
        await send({"type": "websocket.close", "code": message["code"]})
    except OSError:
        ENDS.append({"type": "gone"})


async def _live(receive: Receive, send: Send) -> None:
    """Says something all the while, like a stream; in LIVE until it is told that its client has gone."""
    me = object()
    LIVE.add(me)
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    gone = asyncio.ensure_future(receive())
    while not gone.done():
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.wait({gone}, timeout=0.02)
    LIVE.discard(me)


@dataclass
class Server:
    host: str
    port: int
    bounds: ConnectionLimits
    client: httpx2.AsyncClient

    async def talk(self, raw: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(raw)
        return reader, writer

    async def answer(self, raw: bytes) -> bytes:
        """All that comes until the server closes."""
        reader, writer = await self.talk(raw)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()

    async def others_are_served(self) -> None:
        began = time.monotonic()
        assert (await self.client.get("/")).status_code == 200
        assert time.monotonic() - began < 5


@asynccontextmanager
async def serve_app(bounds: ConnectionLimits) -> AsyncIterator[Server]:
    async with (
        listening(app, http=partial(BoundedProtocol, limits=bounds, websocket_path=SOCKET_PATH)) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield Server(client.base_url.host, client.base_url.port or 0, bounds, client)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """An application behind the connections' bounds, with short times."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.5)
    ENDS.clear()
    async with serve_app(ConnectionLimits(max_connections=1000, max_per_address=1000)) as made:
        yield made


def check_refused(answer: bytes, status: int) -> None:
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:100]
    assert b"content-type: application/problem+json" in answer
    assert b'"trace_id":"' in answer
    assert b"connection: close" in answer


GET = b"GET / HTTP/1.1\r\nhost: x\r\n"


POST = b"POST /body HTTP/1.1\r\nhost: x\r\n"


CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
