"""The one ASGI application of a process: probes, internal operations, then the gateway or the service that has the route."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from caravan import telemetry
from caravan.auth import Verifier, check_internal
from caravan.client import FAIR_SECONDS, Local, Operation, authorization, deadline, verify_caller_behind
from caravan.deadlines import Deadline
from caravan.errors import BadRequest, DeadlineExceeded, Forbidden, Invalid, NotFound, Unauthorized
from caravan.faults import UNKNOWN
from caravan.health import PATHS, Health
from caravan.http import App, Body, Receive, Scope, Send, answer_head, as_problem, leaves, problem_response
from caravan.http.addresses import peer_network
from caravan.refusals import ANONYMOUS, RefusedRequests


@dataclass(slots=True)
class Door:
    """`secret` is the one that callers of internal operations prove to have. `probes_apart`: probes have a port of their own, so they are not answered here."""

    peers: Mapping[str, App]
    health: Health
    secret: str
    probes_apart: bool
    operations: dict[str, tuple[Operation[Any, Any], Local]] = field(default_factory=dict)
    """By path."""
    refused: dict[str, RefusedRequests] = field(default_factory=dict)
    """By service: who was refused one of its operations."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All requests."""
        if scope["type"] == "http":
            path = scope["path"]
            if path in PATHS and not self.probes_apart:
                await self.probes(scope, receive, send)
                return
            if path.startswith("/internal/"):
                await (await _answered(self._internal(scope, receive), path))(scope, receive, send)
                return
            if scope["method"] == "HEAD":
                await answer_head(self._front({**scope, "method": "GET"}), scope, receive, send)
                return
        elif scope["type"] == "lifespan":
            return
        await self._front(scope)(scope, receive, send)

    async def outside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same for a port that clients reach: there are no internal operations, for them the path is one like any other."""
        if scope["type"] == "http" and scope["path"].startswith("/internal/"):
            await self._front(scope)(scope, receive, send)
            return
        await self(scope, receive, send)

    async def probes(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Probes and metrics as an application of their own, for a port that clients don't reach."""
        if scope["path"] in PATHS:
            answer = await _answered(self.health.answer(scope["path"]), scope["path"])
        else:
            answer = Response("not found\n", 404)
        await answer(scope, receive, send)

    def _front(self, scope: Scope) -> App:
        if len(self.peers) == 1:
            return next(iter(self.peers.values()))
        if "gateway" in self.peers:
            return self.peers["gateway"]
        for app in self.peers.values():
            routes = getattr(getattr(app, "fastapi", None), "routes", ())
            if any(route.matches(scope)[0].value for route in routes):
                return app
        return next(iter(self.peers.values()))

    async def _internal(self, scope: Scope, receive: Receive) -> Response:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        telemetry.request_id.set(headers.get(b"x-request-id"))
        telemetry.traceparent.set(telemetry.parse_traceparent(headers.get(b"traceparent")) or telemetry.new_traceparent())
        found = self.operations.get(scope["path"])
        if found is None or scope["method"] != "POST":
            raise NotFound(f"no operation at {scope['path']}")
        operation, local = found
        caller = ANONYMOUS
        try:
            caller = f"service:{check_internal(self.secret, headers.get(b'authorization'), operation.service)}"
            return await _carry_out(operation, local, headers, Body(dict(scope["headers"]), receive))
        except (Unauthorized, Forbidden) as refusal:
            if operation.service in self.refused:
                self.refused[operation.service].note(refusal.status, caller, peer_network(scope), f"POST {operation.path}", refusal.detail)
            raise


async def _carry_out(operation: Operation[Any, Any], local: Local, headers: Mapping[bytes, str], body: Body) -> Response:
    authorization.set(headers.get(b"x-user-authorization"))
    seconds = min(_seconds(headers.get(b"x-caravan-seconds")) or operation.seconds, operation.seconds)
    deadline.set(asyncio.get_running_loop().time() + seconds)
    try:
        async with Deadline(seconds):
            request = operation.request.model_validate_json(await body.read())
            answer = await local(request)
    except ValidationError as error:
        raise Invalid(f"not a request for this operation: {error.error_count()} errors") from None
    except TimeoutError:
        late = DeadlineExceeded(f"{operation.name} was not done within {seconds:.3g} s")
        late.fault = "" if seconds >= min(operation.seconds, FAIR_SECONDS) else UNKNOWN
        raise late from None
    return Response(answer.model_dump_json(), media_type="application/json")


def _seconds(given: str | None) -> float | None:
    try:
        seconds = float(given) if given else None
    except ValueError:
        seconds = 0.0
    if seconds is not None and not seconds > 0:
        raise BadRequest("x-caravan-seconds is not a number of seconds")
    return seconds


async def _answered(making: Awaitable[Response], path: str) -> Response:
    """The answer, or what there is to say of the exception instead of it."""
    try:
        return await making
    except BaseException as error:
        if leaves(error):
            raise
        return problem_response(as_problem(error, path), path)


def for_owner(local: Local, field: str, verifier: Verifier) -> Local:
    """The operation for other processes: a service's token alone reads no user's things."""

    async def guarded(request: Any) -> Any:
        caller = await verify_caller_behind(verifier)
        if not caller.may_see(getattr(request, field)):
            raise Forbidden("this is another user's")
        return await local(request)

    return guarded
