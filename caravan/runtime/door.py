"""The one ASGI application of a process: probes, internal operations, then the gateway or the service that has the route."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from caravan import telemetry
from caravan.auth import check_internal
from caravan.client import Local, Operation, authorization, deadline
from caravan.database import CONNECTION_LOST
from caravan.errors import Invalid, NotFound, Problem
from caravan.health import PATHS, Health
from caravan.http import App, Receive, Scope, Send, problem_response
from caravan.telemetry import log


@dataclass(slots=True)
class Door:
    """`secret` is the one that callers of internal operations prove to have. `probes_apart`: probes have a port of their own, so they are not answered here."""

    peers: Mapping[str, App]
    health: Health
    secret: str
    probes_apart: bool
    operations: dict[str, tuple[Operation[Any, Any], Local]] = field(default_factory=dict)
    """By path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All requests."""
        if scope["type"] == "http":
            path = scope["path"]
            if path in PATHS and not self.probes_apart:
                await self.probes(scope, receive, send)
                return
            if path.startswith("/internal/"):
                await (await self._internal(scope, receive))(scope, receive, send)
                return
        elif scope["type"] == "lifespan":
            return
        await self._front(scope)(scope, receive, send)

    async def probes(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Probes and metrics as an application of their own, for a port that clients don't reach."""
        answer = await self.health.answer(scope["path"]) if scope["path"] in PATHS else Response("not found\n", 404)
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
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        found = self.operations.get(scope["path"])
        try:
            if found is None or scope["method"] != "POST":
                raise NotFound(f"no operation at {scope['path']}")
            operation, local = found
            check_internal(self.secret, headers.get("authorization"), operation.service)
            authorization.set(headers.get("x-user-authorization"))
            telemetry.request_id.set(headers.get("x-request-id"))
            telemetry.traceparent.set(telemetry.parse_traceparent(headers.get("traceparent")) or telemetry.new_traceparent())
            seconds = min(float(headers.get("x-caravan-seconds", operation.seconds)), operation.seconds)
            deadline.set(asyncio.get_running_loop().time() + seconds)
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            async with asyncio.timeout(seconds):
                answer = await local(operation.request.model_validate_json(body))
            return Response(answer.model_dump_json(), media_type="application/json")
        except ValidationError as error:
            return problem_response(Invalid(f"not a request for this operation: {error.error_count()} errors"), scope["path"])
        except Problem as problem:
            return problem_response(problem, scope["path"])
        except (TimeoutError, *CONNECTION_LOST) as error:
            log.warning("internal call failed", path=scope["path"], error=repr(error))
            return Response(orjson.dumps({"title": "Unavailable", "detail": f"{scope['path']}: a backend is away", "status": 503}), 503)
