"""Errors of the graph: what REST answers as a problem document (RFC 9457) stands in an error's `extensions.problem`,
and its `Retry-After` in `extensions.retry_after`.
"""

from typing import Any

from graphql import GraphQLError, GraphQLFormattedError

from caravan import telemetry
from caravan.errors import TYPE_BASE, Problem
from caravan.http import build_problem_document, convert_to_problem
from services.gateway.graphql.answers import ServiceRefused
from services.gateway.graphql.policy import JsonObject

REQUEST_REFUSED = TYPE_BASE + "graphql-request"
PATH = "/graphql"


def format_error(error: GraphQLError) -> GraphQLFormattedError:
    """An error as the client gets it: the problem of whoever refused, or that of the request itself."""
    cause = error.original_error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    if cause is None and error.path:  # a value of ours that its type can't write: a request was judged before
        cause = error
    formatted: GraphQLFormattedError = {"message": error.message}
    if error.locations:
        formatted["locations"] = [location.formatted for location in error.locations]
    if error.path:
        formatted["path"] = list(error.path)
    if cause is None:
        problem = build_problem_document(REQUEST_REFUSED, "The request is not valid", 400, error.message, PATH)
        formatted["extensions"] = {"code": (error.extensions or {}).get("code", "BAD_REQUEST"), "problem": problem}
    else:
        problem, retry_after = describe_failure(cause)
        formatted["message"] = problem["detail"]
        formatted["extensions"] = {"code": _make_code(problem["type"]), "problem": problem}
        if retry_after.isdecimal():
            formatted["extensions"]["retry_after"] = int(retry_after)
    return formatted


def format_problem(problem: Problem) -> GraphQLFormattedError:
    """The error of an operation that was not run."""
    return format_error(GraphQLError(problem.detail, original_error=problem))


def describe_failure(error: BaseException) -> tuple[JsonObject, str]:
    """The problem document of any exception, and in how many seconds to try again. What nobody foresaw is logged."""
    if isinstance(error, ServiceRefused):
        return {**error.document, "trace_id": telemetry.get_trace_id()}, error.retry_after
    problem = convert_to_problem(error, PATH)
    document: dict[str, Any] = build_problem_document(
        problem.type, problem.title, problem.status, problem.detail, PATH, problem.errors, problem.extra
    )
    return document, problem.headers.get("Retry-After", "")


def _make_code(type_uri: str) -> str:
    return type_uri.rsplit("/", 1)[-1].replace("-", "_").upper()
