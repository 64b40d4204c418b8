"""The HTTP door that all services share: problem documents, request ids, trace context, body limit, metrics, pages and entity tags."""

import base64
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import orjson
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException

from caravan import telemetry
from caravan.client import authorization
from caravan.clock import new_id
from caravan.database import CONNECTION_LOST, VersionConflict
from caravan.errors import TYPE_BASE, BadRequest, Conflict, Problem, StaleEdit, TooLarge, Unavailable
from caravan.migrations import derive

MAX_BODY = 1024 * 1024
FORWARDER = b"x-caravan-forwarder"
"""With the key of `forwarder_key`, a request's `X-Forwarded-For` is believed: it came through the gateway, in another process."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class FieldError(BaseModel):
    field: str
    rule: str


class ProblemDocument(BaseModel):
    """RFC 9457; `type` is stable per kind of error."""

    type: str = Field(examples=[TYPE_BASE + "invalid"])
    title: str
    status: int
    detail: str
    instance: str
    trace_id: str | None = None
    errors: list[FieldError] | None = None


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}}
    for status, text in {
        400: "Not readable: broken JSON, or a header or parameter that is missing",
        401: "No access token, or one that is not valid",
        403: "Not allowed for this role",
        404: "No such thing, or not yours",
        405: "No such method here",
        409: "In conflict with the present state",
        412: "Changed since you read it",
        413: "Body over 1 MiB",
        422: "Understood, but not valid: `errors` names the fields",
        429: "Too many requests: see Retry-After",
        503: "A part of the shop is away: see Retry-After",
        504: "The deadline has passed",
    }.items()
}

_TITLES = {400: "Bad request", 404: "Not found", 405: "Method not allowed", 415: "Unsupported media type"}


def problem_response(problem: Problem, path: str) -> Response:
    return _render(problem.type, problem.title, problem.status, problem.detail, path, problem.errors, problem.headers, problem.extra)


def _render(
    kind: str,
    title: str,
    status: int,
    detail: str,
    path: str,
    errors: Any = None,
    headers: dict[str, str] | None = None,
    extra: dict[str, Any] | None = None,
) -> Response:
    document = {
        "type": kind,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": path,
        "trace_id": telemetry.trace_id(),
        **(extra or {}),
    }
    if errors:
        document["errors"] = errors
    return Response(orjson.dumps(document), status, headers, media_type="application/problem+json")


def create_app(service: str, routers: Sequence[Any], context: Any, verifier: Any) -> App:
    """The FastAPI application of a service behind the shared edge."""
    app = FastAPI(
        title=f"Caravan {service}",
        version="1",
        responses=PROBLEMS,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        separate_input_output_schemas=False,
    )
    app.state.context = context
    app.state.verifier = verifier
    for router in routers:
        _include(app, router)
    add_problem_handlers(app)
    _document_problems(app)
    edge = Edge(app, service, forwarder_key(context.secret))
    edge.fastapi = app
    return edge


def _include(app: FastAPI, router: APIRouter) -> None:
    """Put a router's routes into the application as they are: our routers have no prefix or dependencies of their own, and an included router is a
    layer that looks itself up again for each request."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            route.responses = {**PROBLEMS, **route.responses}
            route.unique_id = route.name
        app.router.routes.append(route)


def add_problem_handlers(app: FastAPI) -> None:
    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(error, request.url.path)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        found = error.errors()
        if any(item["type"] == "json_invalid" for item in found):
            return problem_response(BadRequest("the body is not valid JSON"), request.url.path)
        errors = [{"field": _field(item["loc"]), "rule": item["msg"]} for item in found[:50]]
        names = ", ".join(item["field"] for item in errors[:5])
        return _render(TYPE_BASE + "invalid", "The request is not valid", 422, f"not valid: {names}", request.url.path, errors)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        title = _TITLES.get(error.status_code, "Error")
        slug = title.lower().replace(" ", "-")
        detail = f"nothing is served at {request.method} {request.url.path}" if error.status_code in (404, 405) else str(error.detail)
        return _render(TYPE_BASE + slug, title, error.status_code, detail, request.url.path, headers=dict(error.headers or {}))

    async def conflict(request: Request, _: Exception) -> Response:
        return problem_response(Conflict("somebody else changed this at the same moment; read it again"), request.url.path)

    async def away(request: Request, error: Exception) -> Response:
        telemetry.log.warning("backend away", path=request.url.path, error=repr(error))
        return problem_response(Unavailable("a backend of the shop is away; try again"), request.url.path)

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(VersionConflict, conflict)
    for lost in CONNECTION_LOST:
        app.add_exception_handler(lost, away)


def _field(location: Sequence[Any]) -> str:
    """`lines.0.quantity` for a field of the body; parameters keep their kind (`query.limit`)."""
    parts = location[1:] if location[0] == "body" and len(location) > 1 else location
    return ".".join(str(part) for part in parts)


def _document_problems(app: FastAPI) -> None:
    """The problem schema is referred to by every route; put it into the document once."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = original()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas["ProblemDocument"] = schema
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def forwarder_key(secret: str) -> bytes:
    return derive(secret, "forwarder").encode()


class Edge:
    """Pure ASGI around each application: what must happen for every request, and nothing else."""

    fastapi: FastAPI

    def __init__(self, app: App, service: str, forwarder: bytes = b"") -> None:
        self.app = app
        self.service = service
        self.forwarder = forwarder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        rid = given if 0 < len(given) <= 128 and given.isascii() and given.isprintable() else str(new_id())
        telemetry.request_id.set(rid)
        telemetry.service_name.set(self.service)
        telemetry.actor.set(None)
        authorization.set(headers[b"authorization"].decode("latin-1") if b"authorization" in headers else None)
        parent = (
            telemetry.parse_traceparent(headers.get(b"traceparent", b"").decode("latin-1"))
            or telemetry.traceparent.get()
            or telemetry.new_traceparent()
        )
        if FORWARDER in headers and self.forwarder and hmac.compare_digest(headers[FORWARDER], self.forwarder):
            scope["client"] = (headers.get(b"x-forwarded-for", b"unknown").decode("latin-1"), 0)
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
                out = MutableHeaders(scope=message)
                out["x-request-id"] = rid
            await send(message)

        with telemetry.span(f"{scope['method']} {self.service}", SpanKind.SERVER, parent=parent):
            try:
                body = Body(headers, receive)
                await self.app(scope, body.receive, answer)
            except Problem as problem:
                if began:
                    raise
                body = None
                await problem_response(problem, scope["path"])(scope, receive, answer)
            except Exception as error:
                telemetry.log.error("unhandled error", method=scope["method"], path=scope["path"], exc_info=error)
                if began:
                    raise
                body = None
                response = _render(
                    TYPE_BASE + "internal-error",
                    "Internal error",
                    500,
                    "something is wrong on our side; quote the trace_id when you report it",
                    scope["path"],
                )
                await response(scope, receive, answer)
            finally:
                route = scope.get("route")
                template = route.path if isinstance(route, APIRoute) else scope.get("route_template", "unmatched")
                telemetry.HTTP_DURATION.labels(self.service, scope["method"], template, status).observe(time.perf_counter() - started)


class Body:
    """A request's body, refused over MAX_BODY: by its declared length at once, otherwise when it gets too long. It remembers the refusal, because a
    framework turns an error while reading into one of its own."""

    def __init__(self, headers: dict[bytes, bytes], receive: Receive) -> None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise BadRequest("Content-Length is not a number")
        if int(length) > MAX_BODY:
            raise TooLarge(f"the body is {int(length)} bytes; at most {MAX_BODY} are taken")
        self._receive = receive
        self._seen = 0
        self.refused: TooLarge | None = None

    async def receive(self) -> MutableMapping[str, Any]:
        try:
            message = await self._receive()
            if message["type"] == "http.request":
                self._seen += len(message.get("body", b""))
                if self._seen > MAX_BODY:
                    raise TooLarge(f"the body is over {MAX_BODY} bytes")
        except TooLarge as problem:
            self.refused = problem
            raise
        return message


class Strict(BaseModel):
    """The base of every request body: unknown fields refused, no silent coercion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A page of a list; `next_cursor` is null at the end."""

    items: list[T]
    next_cursor: str | None = None


Limit = Annotated[int, Query(ge=1, le=100, description="items per page")]
CursorParameter = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before")]


def encode_cursor(*position: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def moment(text: str) -> datetime:
    """A part of a cursor that is a time. ValueError without a zone: the database takes none."""
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError("a time without a zone")
    return parsed


def decode_cursor(cursor: str | None, *kinds: Callable[[Any], Any]) -> list[Any] | None:
    """The position behind a cursor, each part through its kind (`UUID`, `moment`, ...). Raises BadRequest."""
    if cursor is None:
        return None
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(parts, list) or len(parts) != len(kinds):
            raise ValueError("wrong number of parts")
        return [kind(part) for kind, part in zip(kinds, parts, strict=True)]
    except (ValueError, TypeError, AttributeError) as error:
        raise BadRequest("cursor is not one that this list gave out") from error


def entity_tag(version: int) -> str:
    return f'"{version}"'


def check_if_match(request: Request, version: int) -> None:
    """Raises StaleEdit when the request's If-Match names another version. Without the header the edit is unconditional."""
    given = request.headers.get("if-match")
    if (
        given is not None
        and given.strip() != "*"
        and entity_tag(version) not in [tag.strip().removeprefix("W/") for tag in given.split(",")]
    ):
        raise StaleEdit(f"you have {given}, it is {entity_tag(version)} now; read it again")


def json_response(body: BaseModel | bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response without a second validation: the model was made by us."""
    return Response(body if isinstance(body, bytes) else body.model_dump_json(), status, headers, media_type="application/json")
