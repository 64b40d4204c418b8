"""Errors of the graph: what REST answers as a problem document (RFC 9457) stands in an error's `extensions.problem`."""

from typing import Any

from graphql import GraphQLError, GraphQLFormattedError

from caravan import telemetry
from caravan.errors import TYPE_BASE, Problem
from caravan.http import convert_to_problem
from services.gateway.graphql.policy import JsonObject
from services.gateway.graphql.service_calls import ServiceRefused

REQUEST_REFUSED = TYPE_BASE + "graphql-request"


def format_error(error: GraphQLError) -> GraphQLFormattedError:
    """An error as the client gets it: the problem of whoever refused, or that of the request itself."""
    cause = error.original_error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    formatted: GraphQLFormattedError = {"message": error.message}
    if error.locations:
        formatted["locations"] = [location.formatted for location in error.locations]
    if error.path:
        formatted["path"] = list(error.path)
    if cause is None:
        problem = _build_document(REQUEST_REFUSED, "The request is not valid", 400, error.message)
        code = (error.extensions or {}).get("code", "BAD_REQUEST")
    else:
        problem = describe_failure(cause)
        formatted["message"] = problem["detail"]
        code = _make_code(problem["type"])
    formatted["extensions"] = {"code": code, "problem": problem}
    return formatted


def describe_failure(error: BaseException) -> JsonObject:
    """The problem document of any exception. What nobody foresaw is logged."""
    if isinstance(error, ServiceRefused):
        return {**error.document, "trace_id": telemetry.get_trace_id()}
    problem = convert_to_problem(error, "/graphql")
    return describe_problem(problem)


def describe_problem(problem: Problem) -> JsonObject:
    document = _build_document(problem.type, problem.title, problem.status, problem.detail)
    if problem.errors:
        document["errors"] = problem.errors
    return {**document, **problem.extra}


def _build_document(type_uri: str, title: str, status: int, detail: str) -> dict[str, Any]:
    return {
        "type": type_uri,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": "/graphql",
        "trace_id": telemetry.get_trace_id(),
    }


def _make_code(type_uri: str) -> str:
    return type_uri.rsplit("/", 1)[-1].replace("-", "_").upper()
