"""The client's side of a forwarded request: reading its body, and noticing that the client has disconnected."""

from collections.abc import MutableMapping
from typing import Any

from caravan.http import Receive, Send

CLIENT_CLOSED_REQUEST = 499


class ClientDisconnected(Exception):
    """The client has closed the connection before its body was complete."""


async def read_body(receive: Receive) -> bytes:
    """The whole body, before the service is taken up with it: the client's time is no part of the service's."""
    buffer = bytearray()
    has_more = True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        has_more = message.get("more_body", False)
        buffer += message.get("body", b"")
    return bytes(buffer)


def replay_body(body: bytes, receive: Receive) -> Receive:
    """For an application that reads what has been read already; then it hears of the client's leaving as before."""
    is_replayed = False

    async def receive_message() -> MutableMapping[str, Any]:
        nonlocal is_replayed
        if is_replayed:
            return await receive()
        is_replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_message


async def wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer_client_closed(send: Send) -> None:
    """Nobody reads this answer; the metrics count it."""
    await send({"type": "http.response.start", "status": CLIENT_CLOSED_REQUEST, "headers": []})
    await send({"type": "http.response.body"})
