"""HEAD wherever GET is served."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from caravan.http.edge import App, Receive, Scope, Send


async def answer_head(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer HEAD as the application answers GET, without the body. A stream ends as if its client had left."""
    begun = asyncio.Event()
    asked = False

    async def receive_request() -> MutableMapping[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return await receive()
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send_head(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            begun.set()

    await app({**scope, "method": "GET"}, receive_request, send_head)
