"""A live stream says that it is one, and that nobody may keep it back."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

from caravan.http.streams import EVENT_STREAM_TYPE, EventStream
from caravan.runtime import connections
from caravan.runtime.connection_limits import ConnectionLimits
from caravan.runtime.connections import BoundedProtocol
from tests.services.gateway.stand_ins import listening


async def test_a_stream_is_neither_stored_nor_buffered() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"

    stream = EventStream(events())
    assert stream.headers["content-type"].startswith(EVENT_STREAM_TYPE)
    assert stream.headers["cache-control"] == "no-store"
    assert stream.headers["x-accel-buffering"] == "no"
    assert [chunk async for chunk in stream.body_iterator] == [b"data: 1\n\n"]


class Connection:
    """A client that takes what is sent, until it leaves."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


async def test_it_ends_as_a_whole_answer_does() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"

    connection = Connection()
    await EventStream(events())({"type": "http"}, connection.receive, connection.send)
    assert [message.get("body") for message in connection.sent] == [None, b"data: 1\n\n", b"data: 2\n\n", b""]
    assert [message.get("more_body") for message in connection.sent] == [None, True, True, False]


async def test_it_ends_when_the_client_leaves_and_only_then() -> None:
    """Who asked for it ends it, too: that is raised as it is."""
    has_ended = []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            await asyncio.Event().wait()
        finally:
            has_ended.append(True)

    for leave in (True, False):
        connection = Connection()
        stream = asyncio.create_task(EventStream(events())({"type": "http"}, connection.receive, connection.send))
        while len(connection.sent) < 2:
            await asyncio.sleep(0)
        assert len(has_ended) == (0 if leave else 1)
        if leave:
            connection.left.set()
            await stream
        else:
            stream.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stream
    assert len(has_ended) == 2


async def test_a_client_that_takes_nothing_is_cut_off_and_nothing_is_kept_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.5)
    parts, has_ended = 0, asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        nonlocal parts
        try:
            while True:
                parts += 1
                yield b"data: %s\n\n" % (b"x" * 65536)
                await asyncio.sleep(0)  # as one does that waits for its next change
        finally:
            has_ended.set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventStream(events())(scope, receive, send)

    limits = ConnectionLimits(10)
    async with listening(app, http=partial(BoundedProtocol, limits=limits)) as url:
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.wait_for(has_ended.wait(), 10)
    assert parts < 500, "what the system's buffers hold, and no more"
