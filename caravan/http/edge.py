"""What happens for every request, around each application: request id, trace context, body limit, metrics, and no stack trace for a stranger."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from opentelemetry.trace import SpanKind
from starlette.datastructures import MutableHeaders

from caravan import telemetry
from caravan.client import authorization, deadline
from caravan.clock import new_id
from caravan.derivation import derive
from caravan.errors import BadRequest, Busy, Problem, TooLarge, TooSlow
from caravan.http.addresses import peer_network
from caravan.http.problems import as_problem, problem_response
from caravan.refusals import ANONYMOUS, STATUSES, RefusedRequests, reason_of

MAX_BODY = 1024 * 1024
BODY_SECONDS = 10.0
"""How long a client may take for the body of its request: its own time, no part of the service's."""
SMALL_BODY = 64 * 1024
MAX_BODIES = 128 * 1024 * 1024
"""Of all bodies over SMALL_BODY that one process has in hand."""
BOUNDED = "caravan.bounded"
"""In a scope: an edge further out bounds the body."""
FORWARDER = b"x-caravan-forwarder"
"""With the key of `forwarder_key`, a request's `X-Forwarded-For` is believed: it came through the gateway, in another process."""

SECONDS = b"x-caravan-seconds"
"""From a forwarder: how long it waits for the answer. Calls of other services for it end before that, so that the answer can say what was wrong."""

SINGLE = (
    b"authorization",
    b"content-length",
    b"content-type",
    b"host",
    b"idempotency-key",
    b"if-match",
    b"last-event-id",
    b"x-caravan-forwarder",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-request-id",
)
"""Headers that make no sense twice."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def forwarder_key(secret: str) -> bytes:
    return derive(secret, "forwarder").encode()


def _refuse_repeated(headers: list[tuple[bytes, bytes]]) -> None:
    """Of two, one reader would take the first and another the last."""
    for name in SINGLE:
        if sum(header[0] == name for header in headers) > 1:
            raise BadRequest(f"the header {name.decode()} is there more than once; send it once")


def leaves(error: BaseException) -> bool:
    """Whether an exception ends this task on purpose. A cancellation that nobody asked this task for has leaked out of another one."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return not isinstance(error, Exception)


class Edge:
    """Pure ASGI around each application: what must happen for every request, and nothing else."""

    fastapi: FastAPI

    def __init__(self, app: App, service: str, forwarder: bytes = b"", refused: RefusedRequests | None = None) -> None:
        """`refused` is told whom this application refuses, but for requests that came through the gateway, which tells of them itself."""
        self.app = app
        self.service = service
        self.forwarder = forwarder
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        rid = _request_id(headers)
        telemetry.request_id.set(rid)
        telemetry.service_name.set(self.service)
        telemetry.actor.set(None)
        authorization.set(headers[b"authorization"].decode("latin-1") if b"authorization" in headers else None)
        parent = (
            telemetry.parse_traceparent(headers.get(b"traceparent", b"").decode("latin-1"))
            or telemetry.traceparent.get()
            or telemetry.new_traceparent()
        )
        refused = None if BOUNDED in scope else self.refused
        if FORWARDER in headers and self.forwarder and hmac.compare_digest(headers[FORWARDER], self.forwarder):
            refused = None
            scope["client"] = (headers.get(b"x-forwarded-for", b"unknown").decode("latin-1"), 0)
            if SECONDS in headers:
                deadline.set(asyncio.get_running_loop().time() + float(headers[SECONDS]))
        started = time.perf_counter()
        status = 500
        began = False
        body: Body | None = None

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status, began
            if message["type"] == "http.response.start":
                if body is not None and body.refused is not None:
                    raise body.refused
                began = True
                status = message["status"]
                _add_headers(message, rid, b"authorization" not in headers and scope["method"] in ("GET", "HEAD"))
            elif refused is not None and status in STATUSES:
                _note(refused, status, scope, message)
            await send(message)

        with telemetry.span(f"{scope['method']} {self.service}", SpanKind.SERVER, parent=parent):
            try:
                if len(headers) != len(scope["headers"]):
                    _refuse_repeated(scope["headers"])
                if BOUNDED in scope:
                    await self.app(scope, receive, answer)
                else:
                    scope[BOUNDED] = True
                    body = Body(headers, receive)
                    await self.app(scope, body.receive, answer)
            except BaseException as error:
                if began or leaves(error):
                    raise
                if body is not None and body.refused is not None:
                    error, body.refused = body.refused, None
                await problem_response(as_problem(error, scope["path"]), scope["path"])(scope, receive, answer)
            finally:
                if body is not None:
                    body.close()
                telemetry.HTTP_DURATION.labels(self.service, scope["method"], _template(scope), status).observe(
                    time.perf_counter() - started
                )


def _request_id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if 0 < len(given) <= 128 and given.isascii() and given.isprintable() else str(new_id())


def _note(refused: RefusedRequests, status: int, scope: Scope, message: MutableMapping[str, Any]) -> None:
    actor = telemetry.actor.get() or ANONYMOUS
    refused.note(status, actor, peer_network(scope), f"{scope['method']} {_template(scope)}", reason_of(message.get("body", b"")))


def _template(scope: Scope) -> str:
    route = scope.get("route")
    return str(route.path if isinstance(route, APIRoute) else scope.get("route_template", "unmatched"))


def _add_headers(message: MutableMapping[str, Any], rid: str, public: bool) -> None:
    """What every answer says. Somebody's own, what a request did and what is refused are for no cache, unless the route says otherwise."""
    out = MutableHeaders(scope=message)
    out["x-request-id"] = rid
    out.setdefault("x-content-type-options", "nosniff")
    if not public or message["status"] >= 400:
        out.setdefault("cache-control", "no-store")


class Body:
    """A request's body: refused over MAX_BODY, by its declared length at once, otherwise when it gets too long, and when it takes longer than
    BODY_SECONDS to come. It remembers the refusal, because a framework turns an error while reading into one of its own."""

    held = 0
    """Bytes of the large bodies that all requests of this process have in hand."""

    def __init__(self, headers: dict[bytes, bytes], receive: Receive) -> None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise BadRequest("Content-Length is not a number")
        if len(length) > 15 or int(length) > MAX_BODY:
            raise TooLarge(f"the body is {length[:15].decode()} bytes; at most {MAX_BODY} are taken")
        self._receive = receive
        self._seen = self._holding = 0
        coding = headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise BadRequest("of the transfer codings only chunked is taken")
        self._coming = length != b"0" or coding is not None
        self._until: float | None = None
        self.refused: Problem | None = None

    async def receive(self) -> MutableMapping[str, Any]:
        if not self._coming:
            return await self._receive()
        try:
            message = await self._in_time()
            self._coming = message.get("more_body", False)
            self._seen += len(message.get("body", b""))
            if self._seen > MAX_BODY:
                raise TooLarge(f"the body is over {MAX_BODY} bytes")
            if self._seen > SMALL_BODY:
                self._hold(self._seen - self._holding)
        except Problem as problem:
            self.refused = problem
            raise
        return message

    async def read(self) -> bytes:
        """The whole of it."""
        whole = b""
        more = True
        while more:
            message = await self.receive()
            whole += message.get("body", b"")
            more = message.get("more_body", False)
        return whole

    def close(self) -> None:
        """The request has ended."""
        Body.held -= self._holding
        self._holding = 0

    async def _in_time(self) -> MutableMapping[str, Any]:
        loop = asyncio.get_running_loop()
        self._until = self._until or loop.time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(self._until):
                return await self._receive()
        except TimeoutError:
            raise TooSlow(f"the body was not complete after {BODY_SECONDS:g} s") from None

    def _hold(self, more: int) -> None:
        if Body.held + more > MAX_BODIES:
            raise Busy("too many large bodies are coming in; try again", retry_after=2)
        Body.held += more
        self._holding += more
