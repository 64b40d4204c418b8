"""Decides whether the called service is at fault when a request fails, for requests that the gateway forwards and for
calls between services.

Against a service count a connection that can't be made or breaks, its own 502, 503 and 504, and silence while it
answers nobody else. What a client can provoke (any other status, a body that doesn't come, a disconnect) never counts,
nor does a limit of this process, nor what the service says is its dependency's fault.

The answer is True, False (it has answered, so it works), or None when nothing is known.
"""

import httpx2

from caravan.errors import (
    BadRequest,
    Conflict,
    ContentTooLarge,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    Problem,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
)

FAULT_HEADER = "x-caravan-fault"
"""The header of an answer whose fault is not the service's own; for callers of ours only, the gateway takes it off."""
DEPENDENCY = "dependency"
UNKNOWN = "unknown"

FAILURE_STATUSES = frozenset({502, 503, 504})
UNSENT_ERRORS = (httpx2.ConnectError, httpx2.ConnectTimeout)
"""No connection was made: whatever the request is, it has reached nobody."""
_CLIENT_ERRORS = (httpx2.PoolTimeout, httpx2.LocalProtocolError, httpx2.UnsupportedProtocol)
"""Errors of the client library that say nothing of who was asked."""

_PROBLEM_TYPES: dict[int, type[Problem]] = {
    problem_type.status: problem_type
    for problem_type in (
        BadRequest,
        Forbidden,
        NotFound,
        Conflict,
        PreconditionFailed,
        ContentTooLarge,
        InvalidRequest,
        ServiceUnavailable,
        DeadlineExceeded,
    )
}


def has_failed(status: int, fault: str) -> bool | None:
    """By what was answered; `fault` is what the answer says of itself in FAULT."""
    if status not in FAILURE_STATUSES:
        return False
    return {"": True, DEPENDENCY: False}.get(fault)


def has_failed_with(error: BaseException) -> bool | None:
    """By what was raised instead of an answer."""
    if isinstance(error, Problem):
        return has_failed(error.status, error.fault)
    return (
        True
        if is_connection_lost(error)
        or (isinstance(error, httpx2.TimeoutException) and not isinstance(error, _CLIENT_ERRORS))
        else None
    )


def is_connection_lost(error: BaseException) -> bool:
    """There is no connection, or it broke: another endpoint may well answer."""
    return isinstance(error, UNSENT_ERRORS) or (
        isinstance(error, httpx2.TransportError) and not isinstance(error, (*_CLIENT_ERRORS, httpx2.TimeoutException))
    )


def build_problem(response: httpx2.Response, *, fallback: str) -> Problem:
    """The Problem that a service answered, with its fault; `fallback` says what happened where the answer does not."""
    try:
        document = response.json()
        detail, errors = str(document["detail"]), document.get("errors")
    except (ValueError, KeyError, TypeError):
        detail, errors = fallback, None
    if response.status_code == 401:
        return Unauthorized(detail)
    if response.status_code == 429:
        return TooManyRequests(detail, retry_after=1)
    problem_type = _PROBLEM_TYPES.get(response.status_code)
    if problem_type is None or problem_type is ServiceUnavailable:
        # A status that nobody declares, such as 500, is a fault of this one request and leaves the service as it is.
        is_undeclared = response.status_code not in FAILURE_STATUSES
        return ServiceUnavailable(detail, fault=DEPENDENCY if is_undeclared else response.headers.get(FAULT_HEADER, ""))
    problem = problem_type(detail, errors=errors)
    problem.fault = response.headers.get(FAULT_HEADER, "")
    return problem
