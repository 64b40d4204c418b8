"""The client's side of a forwarded request: reading its body, and noticing that the client has disconnected."""

from caravan.http import Receive, Send

CLIENT_CLOSED_REQUEST = 499


class ClientDisconnected(Exception):
    """The client has closed the connection before its body was complete."""


async def read_body(receive: Receive) -> bytes:
    """The whole body, before a connection of the service is taken for it: the client's time is no part of the
    service's.
    """
    buffer = bytearray()
    has_more = True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        has_more = message.get("more_body", False)
        buffer += message.get("body", b"")
    return bytes(buffer)


async def wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer_client_closed(send: Send) -> None:
    """Nobody reads this answer; the metrics count it."""
    await send({"type": "http.response.start", "status": CLIENT_CLOSED_REQUEST, "headers": []})
    await send({"type": "http.response.body"})
