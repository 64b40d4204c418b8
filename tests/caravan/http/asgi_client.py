"""Requests to a bare ASGI application behind the middleware, without a server or a framework."""

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from caravan.http import RequestMiddleware
from caravan.http.middleware import App, Receive, Scope, Send, derive_forwarder_key
from caravan.refusals import RefusalRecorder

KEY = derive_forwarder_key("a secret")


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        return dict(json.loads(self.body))


@dataclass
class Client:
    """Sends one request after the other to an application."""

    app: App
    sent: list[Any] = field(default_factory=list)

    async def send_request(
        self,
        method: str = "GET",
        headers: Iterable[tuple[bytes, bytes]] = (),
        chunks: Iterable[bytes | Awaitable[bytes]] = (b"",),
    ) -> Response:
        self.sent = []
        coming = list(chunks)

        async def receive() -> Any:
            chunk = coming.pop(0)
            body = chunk if isinstance(chunk, bytes) else await chunk
            return {"type": "http.request", "body": body, "more_body": bool(coming)}

        async def send(message: Any) -> None:
            self.sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": "/v1/pets",
            "query_string": b"",
            "headers": list(headers),
            "client": ("10.0.0.9", 1),
        }
        await self.app(scope, receive, send)
        start = self.sent[0]
        return Response(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in self.sent[1:]),
        )


def make_client(act: Callable[[Scope, Receive], Awaitable[Any]], *, refused: RefusalRecorder | None = None) -> Client:
    """An application that answers with the JSON of what `act` returns."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        content = await act(scope, receive)
        headers = [(b"cache-control", b"max-age=60")] if content == "cacheable" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})

    return Client(RequestMiddleware(app, "pets", KEY, refused))


async def read_size(_: Scope, receive: Receive) -> int:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    return size


def show_client(scope: Scope) -> Any:
    return scope["client"][0]


def act_with(value: Callable[[Scope], Any]) -> Callable[[Scope, Receive], Awaitable[Any]]:
    async def act(scope: Scope, _: Receive) -> Any:
        return value(scope)

    return act


def raise_on_call(error: BaseException) -> Callable[[Scope, Receive], Awaitable[Any]]:
    async def act(_: Scope, __: Receive) -> Any:
        raise error

    return act
