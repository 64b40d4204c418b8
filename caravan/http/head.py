"""Answers HEAD wherever GET is served."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from caravan.http.middleware import App, Receive, Scope, Send


async def answer_head(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer HEAD as the application answers GET, without the body. A stream ends as if its client had left."""
    response_started = asyncio.Event()
    is_request_read = False

    async def receive_request() -> MutableMapping[str, Any]:
        nonlocal is_request_read
        if not is_request_read:
            message = await receive()
            is_request_read = not message.get("more_body", False)
            return message
        await response_started.wait()
        return {"type": "http.disconnect"}

    async def send_head(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            response_started.set()

    await app({**scope, "method": "GET"}, receive_request, send_head)
