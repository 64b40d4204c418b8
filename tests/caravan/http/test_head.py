"""HEAD as GET without a body, also where the body has no end."""

import asyncio
from typing import Any

from caravan.http.head import answer_head


async def test_head_has_the_headers_of_get_and_no_body_and_a_stream_ends() -> None:
    methods: list[str] = []
    sent: list[Any] = []

    async def stream_forever(scope: Any, receive: Any, send: Any) -> None:
        methods.append(scope["method"])
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"etag", b'"1"')]})
        while (await receive())["type"] != "http.disconnect":
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(5):
        await answer_head(stream_forever, {"type": "http", "method": "HEAD"}, receive, send)
    assert methods == ["GET"]
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"etag", b'"1"')]},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]
