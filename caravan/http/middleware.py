"""What happens for every request, around each application: request id, trace context, body limit, metrics, and a
problem document instead of a stack trace.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from opentelemetry.trace import Span, SpanKind
from starlette.datastructures import MutableHeaders

from caravan import telemetry
from caravan.client import authorization, deadline
from caravan.clock import new_id
from caravan.derivation import derive_secret
from caravan.errors import BadRequest, CapacityExceeded, ContentTooLarge, Problem, RequestTimeout
from caravan.http.client_ip import peer_network
from caravan.http.problems import convert_to_problem, make_problem_response
from caravan.refusals import ANONYMOUS, REFUSAL_STATUSES, RefusalRecorder, extract_reason
from caravan.telemetry import http_spans, metrics

_MAX_BODY = 1024 * 1024
BODY_SECONDS = 10.0
"""How long a client may take for the body of its request: its own time, no part of the service's."""
_SMALL_BODY = 64 * 1024
_MAX_BODIES = 128 * 1024 * 1024
"""Of all bodies over `_SMALL_BODY` that one process holds."""
BODY_BOUNDED = "caravan.bounded"
"""In a scope: an outer middleware bounds the body, and notes who is refused."""
_TRACED = "caravan.traced"
FORWARDER_HEADER = b"x-caravan-forwarder"
"""With the key of `forwarder_key`, a request's `X-Forwarded-For` is believed: it came through the gateway, in another
process.
"""

SECONDS_HEADER = b"x-caravan-seconds"
"""From a forwarder: how long it waits for the answer. Calls of other services for it end before that, so that the
answer can say what was wrong.
"""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_UNMATCHED = "unmatched"
_SINGLE_HEADERS = (
    b"authorization",
    b"content-length",
    b"content-type",
    b"host",
    b"idempotency-key",
    b"if-match",
    b"last-event-id",
    b"origin",
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


def derive_forwarder_key(secret: str) -> bytes:
    return derive_secret(secret, "forwarder").encode()


def refuse_repeated_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Of two, one reader would take the first and another the last. Raises BadRequest."""
    for name in _SINGLE_HEADERS:
        if sum(header[0] == name for header in headers) > 1:
            raise BadRequest(f"the header {name.decode()} is there more than once; send it once")


def is_task_exit(error: BaseException) -> bool:
    """Whether an exception ends this task on purpose. A cancellation that nobody asked this task for has leaked out of
    another one.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return not isinstance(error, Exception)


class RequestMiddleware:
    """Pure ASGI around each application: what must happen for every request, and nothing else."""

    fastapi: FastAPI

    def __init__(
        self, app: App, service: str, forwarder_key: bytes = b"", refused: RefusalRecorder | None = None
    ) -> None:
        """`refused` is told whom this application refuses, but for requests that came through the gateway, which tells
        of them itself.
        """
        self.app = app
        self.service = service
        self.forwarder_key = forwarder_key
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = _choose_request_id(headers)
        self._set_context(scope, headers, request_id)
        is_forwarded = self._is_forwarded(headers)
        if is_forwarded:
            scope["client"] = (headers.get(b"x-forwarded-for", b"unknown").decode("latin-1"), 0)
            if SECONDS_HEADER in headers:
                deadline.set(asyncio.get_running_loop().time() + float(headers[SECONDS_HEADER]))
        started_at = time.perf_counter()
        is_first = not is_forwarded and BODY_BOUNDED not in scope  # no gateway of ours was before it
        refused = self.refused if is_first else None
        status, location, has_started = 500, "", False
        body: RequestBody | None = None

        async def send_response(message: MutableMapping[str, Any]) -> None:
            nonlocal status, has_started, location
            if message["type"] == "http.response.start":
                if body is not None and body.refusal is not None:
                    raise body.refusal
                has_started = True
                status = message["status"]
                location = http_spans.read_location(status, message["headers"]) if is_first else ""
                _add_headers(
                    message, request_id, b"authorization" not in headers and scope["method"] in ("GET", "HEAD")
                )
            elif refused is not None and status in REFUSAL_STATUSES:
                _record_refusal(refused, status, scope, message)
            await send(message)

        method = scope["method"] if scope["method"] in _METHODS else http_spans.OTHER_METHOD
        with _start_span(scope, headers, method) as span:
            try:
                if len(headers) != len(scope["headers"]):
                    refuse_repeated_headers(scope["headers"])
                if BODY_BOUNDED in scope:
                    await self.app(scope, receive, send_response)
                else:
                    scope[BODY_BOUNDED] = True
                    body = RequestBody(headers, receive)
                    await self.app(scope, body.receive, send_response)
            except BaseException as error:
                if has_started or is_task_exit(error):
                    raise
                if body is not None and body.refusal is not None:
                    error, body.refusal = body.refusal, None
                await make_problem_response(convert_to_problem(error, scope["path"]), scope["path"])(
                    scope, receive, send_response
                )
            finally:
                if body is not None:
                    body.close()
                self._observe_request(span, method, status, scope, started_at, location if is_first else None)

    def _observe_request(
        self, span: Span | None, method: str, status: int, scope: Scope, started_at: float, location: str | None
    ) -> None:
        route, seconds = _get_route_template(scope), time.perf_counter() - started_at
        metrics.HTTP_DURATION.labels(self.service, method, route, status).observe(seconds, telemetry.build_exemplar())
        if span is not None and (telemetry.is_recording() or telemetry.is_exporting_logs()):
            self._restore_context(scope)
            http_spans.describe_request(span, method, None if route == _UNMATCHED else route, status, scope, location)

    def _restore_context(self, scope: Scope) -> None:
        """A service in this process, to which the gateway passed the request on, has set its own."""
        telemetry.service_name.set(self.service)
        telemetry.request_scope.set(scope)

    def _set_context(self, scope: Scope, headers: dict[bytes, bytes], request_id: str) -> None:
        telemetry.request_id.set(request_id)
        telemetry.service_name.set(self.service)
        telemetry.actor.set(None)
        telemetry.request_scope.set(scope)
        authorization.set(headers[b"authorization"].decode("latin-1") if b"authorization" in headers else None)

    def _is_forwarded(self, headers: dict[bytes, bytes]) -> bool:
        """Whether the gateway sent it, which notes refusals itself and knows the client and its deadline."""
        given = headers.get(FORWARDER_HEADER)
        return given is not None and bool(self.forwarder_key) and hmac.compare_digest(given, self.forwarder_key)


def _start_span(scope: Scope, headers: dict[bytes, bytes], method: str) -> AbstractContextManager[Span | None]:
    """None within the span of a gateway in this process, which is that of the whole request."""
    if _TRACED in scope:
        return nullcontext()
    scope[_TRACED] = True
    return telemetry.start_span(method, SpanKind.SERVER, parent=headers.get(b"traceparent", b"").decode("latin-1"))


def _choose_request_id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if 0 < len(given) <= 128 and given.isascii() and given.isprintable() else str(new_id())


def _record_refusal(refused: RefusalRecorder, status: int, scope: Scope, message: MutableMapping[str, Any]) -> None:
    actor = telemetry.actor.get() or ANONYMOUS
    refused.record_refusal(
        status,
        actor,
        peer_network(scope),
        f"{scope['method']} {_get_route_template(scope)}",
        extract_reason(message.get("body", b"")),
    )


def _get_route_template(scope: Scope) -> str:
    route = scope.get("route")
    return str(route.path if isinstance(route, APIRoute) else scope.get("route_template", _UNMATCHED))


def _add_headers(message: MutableMapping[str, Any], request_id: str, is_public: bool) -> None:
    """What every answer says. Somebody's own, what a request did and what is refused are for no cache, unless the route
    says otherwise.
    """
    headers = MutableHeaders(scope=message)
    headers["x-request-id"] = request_id
    headers.setdefault("x-content-type-options", "nosniff")
    if not is_public or message["status"] >= 400:
        headers.setdefault("cache-control", "no-store")


class RequestBody:
    """A request's body: refused over _MAX_BODY, by its declared length at once, otherwise when it gets too long, and
    when it takes longer than BODY_SECONDS to come. It remembers the refusal, because a framework turns an error while
    reading into one of its own.
    """

    total_buffered_bytes = 0
    """Bytes of the large bodies that all requests of this process hold."""

    def __init__(self, headers: dict[bytes, bytes], receive: Receive) -> None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise BadRequest("Content-Length is not a number")
        if len(length) > 15 or int(length) > _MAX_BODY:
            raise ContentTooLarge(f"the body is {length[:15].decode()} bytes; at most {_MAX_BODY} are taken")
        self._receive = receive
        self._received_bytes = self._buffered_bytes = 0
        coding = headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise BadRequest("of the transfer codings only chunked is taken")
        self._has_more = length != b"0" or coding is not None
        self._expires_at: float | None = None
        self.refusal: Problem | None = None

    async def receive(self) -> MutableMapping[str, Any]:
        if not self._has_more:
            return await self._receive()
        try:
            message = await self._receive_in_time()
            self._has_more = message.get("more_body", False)
            self._received_bytes += len(message.get("body", b""))
            if self._received_bytes > _MAX_BODY:
                raise ContentTooLarge(f"the body is over {_MAX_BODY} bytes")
            if self._received_bytes > _SMALL_BODY:
                self._reserve_memory(self._received_bytes - self._buffered_bytes)
        except Problem as problem:
            self.refusal = problem
            raise
        return message

    async def read_all(self) -> bytes:
        """The whole of it."""
        content = b""
        more = True
        while more:
            message = await self.receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        return content

    def close(self) -> None:
        """The request has ended."""
        RequestBody.total_buffered_bytes -= self._buffered_bytes
        self._buffered_bytes = 0

    async def _receive_in_time(self) -> MutableMapping[str, Any]:
        loop = asyncio.get_running_loop()
        self._expires_at = self._expires_at or loop.time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(self._expires_at):
                return await self._receive()
        except TimeoutError:
            raise RequestTimeout(f"the body was not complete after {BODY_SECONDS:g} s") from None

    def _reserve_memory(self, count: int) -> None:
        if RequestBody.total_buffered_bytes + count > _MAX_BODIES:
            raise CapacityExceeded("too many large bodies are coming in; try again", retry_after=2)
        RequestBody.total_buffered_bytes += count
        self._buffered_bytes += count
