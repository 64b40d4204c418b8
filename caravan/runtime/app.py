"""The one ASGI application of a process: probes, internal operations, then the gateway or the service that has the
route.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.trace import SpanKind
from pydantic import ValidationError
from starlette.responses import Response

from caravan import telemetry
from caravan.auth import TokenVerifier, verify_internal_token
from caravan.client import (
    MIN_BLAME_SECONDS,
    LocalOperation,
    Operation,
    authorization,
    deadline,
    verify_forwarded_caller,
)
from caravan.deadlines import Deadline
from caravan.errors import BadRequest, DeadlineExceeded, Forbidden, InvalidRequest, NotFound, Problem, Unauthorized
from caravan.fault_attribution import UNKNOWN
from caravan.health import PATHS, Health
from caravan.http import (
    App,
    Receive,
    RequestBody,
    Scope,
    Send,
    answer_head,
    convert_to_problem,
    is_task_exit,
    make_problem_response,
)
from caravan.http.client_ip import peer_network
from caravan.refusals import ANONYMOUS, RefusalRecorder
from caravan.telemetry.http_spans import describe_request


@dataclass(slots=True)
class ProcessApp:
    """`secret` is the one that callers of internal operations prove to have. `has_probe_port`: probes have a port of
    their own, so they are not answered here.
    """

    peers: Mapping[str, App]
    health: Health
    secret: str
    has_probe_port: bool
    operations: dict[str, tuple[Operation[Any, Any], LocalOperation]] = field(default_factory=dict)
    """By path."""
    refused: dict[str, RefusalRecorder] = field(default_factory=dict)
    """By service: who was refused one of its operations."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All requests."""
        if scope["type"] == "http":
            path = scope["path"]
            if path in PATHS and not self.has_probe_port:
                await self.serve_probes(scope, receive, send)
                return
            if path.startswith("/internal/"):
                await (await _await_response(self._handle_internal(scope, receive), path))(scope, receive, send)
                return
            if scope["method"] == "HEAD":
                await answer_head(self._choose_app({**scope, "method": "GET"}), scope, receive, send)
                return
        elif scope["type"] == "lifespan":
            return
        await self._choose_app(scope)(scope, receive, send)

    async def serve_public(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same for a port that clients reach: there are no internal operations, for them the path is one like any
        other.
        """
        if scope["type"] == "http" and scope["path"].startswith("/internal/"):
            await self._choose_app(scope)(scope, receive, send)
            return
        await self(scope, receive, send)

    async def serve_probes(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Probes and metrics as an application of their own, for a port that clients don't reach."""
        if scope["path"] in PATHS:
            accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
            response = await _await_response(self.health.answer_probe(scope["path"], accept), scope["path"])
        else:
            response = Response("not found\n", 404)
        await response(scope, receive, send)

    def _choose_app(self, scope: Scope) -> App:
        if len(self.peers) == 1:
            return next(iter(self.peers.values()))
        if "gateway" in self.peers:
            return self.peers["gateway"]
        for app in self.peers.values():
            routes = getattr(getattr(app, "fastapi", None), "routes", ())
            if any(route.matches(scope)[0].value for route in routes):
                return app
        return next(iter(self.peers.values()))

    async def _handle_internal(self, scope: Scope, receive: Receive) -> Response:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        telemetry.request_id.set(headers.get(b"x-request-id"))
        parent = telemetry.parse_traceparent(headers.get(b"traceparent")) or telemetry.new_traceparent()
        telemetry.traceparent.set(parent)
        entry = self.operations.get(scope["path"])
        if entry is None or scope["method"] != "POST":
            raise NotFound(f"no operation at {scope['path']}")
        operation, call_local = entry
        telemetry.service_name.set(operation.service)
        with telemetry.start_span("POST", SpanKind.SERVER, parent=parent) as span:
            status = 500
            try:
                response = await self._call_operation(operation, call_local, scope, headers, receive)
                status = response.status_code
                return response
            except Problem as problem:
                status = problem.status
                raise
            finally:
                if telemetry.is_recording():
                    describe_request(span, "POST", operation.url_path, status, scope)

    async def _call_operation(
        self,
        operation: Operation[Any, Any],
        call_local: LocalOperation,
        scope: Scope,
        headers: Mapping[bytes, str],
        receive: Receive,
    ) -> Response:
        caller = ANONYMOUS
        try:
            caller = f"service:{verify_internal_token(self.secret, headers.get(b'authorization'), operation.service)}"
            return await _carry_out(operation, call_local, headers, RequestBody(dict(scope["headers"]), receive))
        except (Unauthorized, Forbidden) as refusal:
            if operation.service in self.refused:
                self.refused[operation.service].record_refusal(
                    refusal.status, caller, peer_network(scope), f"POST {operation.url_path}", refusal.detail
                )
            raise


async def _carry_out(
    operation: Operation[Any, Any], local: LocalOperation, headers: Mapping[bytes, str], body: RequestBody
) -> Response:
    authorization.set(headers.get(b"x-user-authorization"))
    seconds = min(_parse_seconds(headers.get(b"x-caravan-seconds")) or operation.seconds, operation.seconds)
    deadline.set(asyncio.get_running_loop().time() + seconds)
    try:
        async with Deadline(seconds):
            request = operation.request.model_validate_json(await body.read_all())
            answer = await local(request)
    except ValidationError as error:
        raise InvalidRequest(f"not a request for this operation: {error.error_count()} errors") from None
    except TimeoutError:
        late = DeadlineExceeded(f"{operation.name} was not done within {seconds:.3g} s")
        late.fault = "" if seconds >= min(operation.seconds, MIN_BLAME_SECONDS) else UNKNOWN
        raise late from None
    return Response(answer.model_dump_json(), media_type="application/json")


def _parse_seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text else None
    except ValueError:
        seconds = 0.0
    if seconds is not None and not seconds > 0:
        raise BadRequest("x-caravan-seconds is not a number of seconds")
    return seconds


async def _await_response(response: Awaitable[Response], path: str) -> Response:
    """The answer, or what there is to say of the exception instead of it."""
    try:
        return await response
    except BaseException as error:
        if is_task_exit(error):
            raise
        return make_problem_response(convert_to_problem(error, path), path)


def guard_owner(call_local: LocalOperation, field: str, verifier: TokenVerifier) -> LocalOperation:
    """The operation for other processes: a service's token alone reads no user's things."""

    async def call_guarded(request: Any) -> Any:
        caller = await verify_forwarded_caller(verifier)
        if not caller.can_see(getattr(request, field)):
            raise Forbidden("this is another user's")
        return await call_local(request)

    return call_guarded
