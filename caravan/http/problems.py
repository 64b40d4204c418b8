"""Errors as RFC 9457 documents: their shape, the conversion of each exception, and their description in OpenAPI."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import orjson
from fastapi import FastAPI, Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from caravan import telemetry
from caravan.database import CONNECTION_LOST, VersionConflict
from caravan.errors import TYPE_BASE, BadRequest, Conflict, InvalidRequest, Problem, ServiceUnavailable
from caravan.fault_attribution import FAULT_HEADER
from caravan.http.bodies import has_body
from caravan.http.headers import HEADERS, describe_headers
from caravan.messages import MessageTooLarge
from caravan.text import BrokenRule


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
    status: {
        "description": text,
        "headers": {name: {**HEADERS[name], "required": status != 409} for name in headers},
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }
    for status, (text, *headers) in {
        400: ("Not readable: broken JSON, or a header or parameter that is missing or of no use",),
        401: ("An access token that is missing or not valid", "WWW-Authenticate"),
        403: ("Not allowed for this role",),
        404: ("No such thing, or not yours",),
        405: ("No such method here", "Allow"),
        408: ("The body came too slowly",),
        409: ("In conflict with the present state", "Retry-After"),
        412: ("Changed since you read it",),
        413: ("Body over 1 MiB",),
        415: ("A body of another content type than the documented ones",),
        422: ("Understood, but not valid: `errors` names the fields",),
        429: ("Too many requests", "Retry-After"),
        431: ("Head too large",),
        503: ("A part of the shop is unavailable", "Retry-After"),
        504: ("The deadline has passed",),
    }.items()
}

_TITLES = {400: "Bad request", 404: "Not found", 405: "Method not allowed", 415: "Unsupported media type"}


def convert_to_problem(error: BaseException, path: str) -> Problem:
    """The problem that a client receives for any exception: the one conversion. What nobody foresaw is the
    shop's own fault.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, VersionConflict):
        return Conflict("somebody else changed this at the same moment; read it again")
    if isinstance(error, CONNECTION_LOST):
        telemetry.log.warning("backend unavailable", path=path, error=repr(error))
        return ServiceUnavailable("a backend of the shop is unavailable; try again")
    if isinstance(error, MessageTooLarge):
        return InvalidRequest(
            "the request says more than one message to other services can hold; send less text, or in parts"
        )
    if isinstance(error, asyncpg.DataError | asyncpg.ProgramLimitExceededError):
        telemetry.log.warning("the database refused a value", path=path, error=repr(error)[:500])
        return InvalidRequest(
            "a value of the request is not one that can be stored or searched for: too large, too complex, or out of "
            "its range"
        )
    telemetry.log.error("unhandled error", path=path, exc_info=error)
    return Problem("something is wrong on our side; quote the trace_id when you report it")


def make_problem_response(problem: Problem, path: str) -> Response:
    headers = {**problem.headers, FAULT_HEADER: problem.fault} if problem.fault else problem.headers
    return _render_problem(
        problem.type, problem.title, problem.status, problem.detail, path, problem.errors, headers, problem.extra
    )


def build_problem_document(
    type_uri: str,
    title: str,
    status: int,
    detail: str,
    path: str,
    errors: Any = None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    document = {
        "type": type_uri,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": path,
        "trace_id": telemetry.get_trace_id(),
        **(extra or {}),
    }
    if errors:
        document["errors"] = errors
    return document


def _render_problem(
    type_uri: str,
    title: str,
    status: int,
    detail: str,
    path: str,
    errors: Any = None,
    headers: dict[str, str] | None = None,
    extra: dict[str, Any] | None = None,
) -> Response:
    document = build_problem_document(type_uri, title, status, detail, path, errors, extra)
    return Response(_encode_json(document), status, headers, media_type="application/problem+json")


def _encode_json(document: dict[str, Any]) -> bytes:
    """As JSON; half a surrogate pair, which a request may hold as a name or in a value, becomes a question mark."""
    try:
        return orjson.dumps(document)
    except TypeError:
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def add_problem_handlers(app: FastAPI) -> None:
    async def handle_problem(request: Request, error: Exception) -> Response:
        return make_problem_response(convert_to_problem(error, request.url.path), request.url.path)

    async def reraise_error(_: Request, error: Exception) -> Response:
        # the middleware around the application answers and logs it once; the framework would answer in plain text
        raise error

    async def handle_invalid_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        details = error.errors()
        problem = _find_unreadable(details)
        if problem is not None:
            return make_problem_response(problem, request.url.path)
        errors = [_describe_field_error(item) for item in details[:50]]
        names = ", ".join(item["field"] for item in errors[:5])
        return _render_problem(
            TYPE_BASE + "invalid", "The request is not valid", 422, f"not valid: {names}", request.url.path, errors
        )

    async def handle_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, Problem):  # raised while the body was read: the framework takes it for its own
            return make_problem_response(error.__cause__, request.url.path)
        title = _TITLES.get(error.status_code, "Error")
        slug = title.lower().replace(" ", "-")
        detail = (
            f"nothing is served at {request.method} {request.url.path}"
            if error.status_code in (404, 405)
            else str(error.detail)
        )
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = format_allow_header(_list_methods(app.router.routes, request.scope))
        return _render_problem(TYPE_BASE + slug, title, error.status_code, detail, request.url.path, headers=headers)

    app.add_exception_handler(Exception, reraise_error)
    app.add_exception_handler(RequestValidationError, handle_invalid_request)
    app.add_exception_handler(HTTPException, handle_http_error)
    for error_type in (Problem, VersionConflict, *CONNECTION_LOST):
        app.add_exception_handler(error_type, handle_problem)


def _find_unreadable(details: Sequence[Any]) -> BadRequest | None:
    """What is no request at all, rather than one with a value that is not valid."""
    for item in details:
        if item["type"] == "json_invalid":
            return BadRequest(f"the body is not valid JSON: {item['ctx']['error']}")
        if item["type"] == "missing" and item["loc"][0] == "header":
            return BadRequest(
                f"the header {item['loc'][1]} is required",
                errors=[{"field": _format_location(item["loc"]), "rule": "must be sent"}],
            )
    return None


def _describe_field_error(item: Any) -> dict[str, str]:
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, BrokenRule):
        return {"field": _format_location((*item["loc"], *cause.field.split("."))), "rule": cause.rule}
    return {"field": _format_location(item["loc"]), "rule": item["msg"].removeprefix("Value error, ")}


def _format_location(location: Sequence[Any]) -> str:
    """`lines.0.quantity` for a field of the body; parameters keep their kind (`query.limit`)."""
    parts = location[1:] if location[0] == "body" and len(location) > 1 else location
    return ".".join(str(part) for part in parts)


def list_problems(route: APIRoute) -> dict[int | str, dict[str, Any]]:
    """The problems with which a route may answer, by what it takes."""
    parameters = {field.alias for field in get_flat_params(route.dependant)}
    excluded = {
        *(() if has_body(route) else (408, 415)),
        *(() if "if-match" in parameters else (412,)),
        # A read has nothing to be in conflict with, save one that waits for a version.
        *(() if route.methods != {"GET"} or "min_version" in parameters else (409,)),
    }
    return {status: problem for status, problem in PROBLEMS.items() if status not in excluded}


def document_problems(app: FastAPI) -> None:
    """The problem schema is referred to by every route; put it into the document once."""
    original = app.openapi

    def build_openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = original()
            for item in document["paths"].values():
                for operation in item.values():
                    describe_headers(operation)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas["ProblemDocument"] = schema
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = build_openapi  # type: ignore[method-assign]


def _list_methods(routes: Iterable[BaseRoute], scope: Scope) -> set[str]:
    """The methods of all routes that have the scope's path."""
    methods: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] != Match.NONE:
            methods |= route.methods or set()
    return methods


def format_allow_header(methods: set[str]) -> str:
    """The value of the header `Allow`."""
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
