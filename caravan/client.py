"""How one service asks another: typed operations, declared in the owner's `client.py`, served by its use cases.

In one process the use case is called directly; otherwise it is an HTTP call to `/internal/<service>/<operation>`. Both have a deadline that callers pass
down and a circuit breaker per target. Only operations that say `repeatable` are tried again, within a retry budget.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx2
from pydantic import BaseModel

from caravan import faults, telemetry
from caravan.auth import Caller, Role, Verifier
from caravan.breaker import Breaker, RetryBudget
from caravan.database import CONNECTION_LOST
from caravan.deadlines import Deadline
from caravan.discovery import UNSPOKEN, Discovery
from caravan.endpoints import Endpoint
from caravan.errors import (
    BadRequest,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    Invalid,
    NotFound,
    Problem,
    StaleEdit,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from caravan.snapshot import CircuitBreaker

Req = TypeVar("Req", bound=BaseModel)
Res = TypeVar("Res", bound=BaseModel)

ATTEMPTS = 3
BACKOFF_SECONDS = 0.05
MOST_ENDPOINTS = 5
"""Most that one request tries because connections to others were lost; that is no retry by the budget: nobody has worked on it."""
FAIR_SECONDS = 1.0
"""Who was given less time than this is not blamed for its silence."""

deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""Loop time by which the work in hand must be done; calls never wait longer."""

authorization: ContextVar[str | None] = ContextVar("authorization", default=None)
"""The caller's own Authorization header, passed on so that the callee sees the user's rights beside the service's identity."""


async def verify_caller_behind(verifier: Verifier, role: Role | None = None) -> Caller:
    """Whoever the calling service asks for, by the token that came along. Raises Unauthorized or Forbidden: a service's own token is not enough."""
    kind, _, token = (authorization.get() or "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise Unauthorized("this operation needs the user's own token beside the service's")
    caller = await verifier.verify(token.strip())
    if role and not caller.at_least(role):
        raise Forbidden(f"this is for {role}; you are {caller.role}")
    return caller


_PROBLEMS: dict[int, type[Problem]] = {
    kind.status: kind for kind in (BadRequest, Forbidden, NotFound, Conflict, StaleEdit, TooLarge, Invalid, Unavailable, DeadlineExceeded)
}


@dataclass(frozen=True, eq=False)
class Operation(Generic[Req, Res]):
    """One question that a service answers for others. `seconds` is the longest a caller waits for it: a bound for one that hangs, wide
    enough for one that is busy. An operation whose caller can do without the answer says less."""

    service: str
    name: str
    request: type[Req]
    response: type[Res]
    seconds: float = 3.0
    repeatable: bool = True
    owner: str = ""
    """The field of the request that names the user whose things are asked for: then the caller brings that user's own token along, or one of staff.
    Without it the question is between services, and their tokens are all that it takes."""

    @property
    def path(self) -> str:
        return f"/internal/{self.service}/{self.name}"


Local = Callable[[Any], Awaitable[Any]]


class Calls:
    """`await context.calls(OPERATION, request)`. Raises the callee's Problem, Unavailable (away, or breaker open) or DeadlineExceeded."""

    def __init__(
        self,
        service: str,
        local: Mapping[Operation[Any, Any], Local],
        discovery: Discovery,
        http: httpx2.AsyncClient,
        credentials: Callable[[str, str], str],
    ) -> None:
        self.service = service
        self._local = local
        self._discovery = discovery
        self._http = http
        self._credentials = credentials
        self._breakers: dict[str, Breaker] = {}
        self._rules: dict[str, CircuitBreaker] = {}
        self._budgets: dict[str, RetryBudget] = {}

    def breaker(self, target: str) -> Breaker:
        found = self._breakers.get(target)
        if found is None:
            gauge = telemetry.BREAKER.labels(self.service, target)
            gauge.set(0)
            found = self._breakers[target] = Breaker(
                time.monotonic, changed=lambda state: gauge.set({"closed": 0, "half-open": 1, "open": 2}[state])
            )
        rules = self._discovery.policy(target).circuit_breaker
        if self._rules.get(target, UNSPOKEN.circuit_breaker) is not rules:
            self._rules[target] = rules
            found.follow(rules)
        return found

    async def __call__(self, operation: Operation[Req, Res], request: Req) -> Res:
        breaker = self.breaker(operation.service)
        if not breaker.allow():
            raise Unavailable(f"{operation.service} is failing; it is asked again in a few seconds", retry_after=5)
        loop = asyncio.get_running_loop()
        now = loop.time()
        until = min(now + operation.seconds, deadline.get() or now + operation.seconds)
        started, asked = time.perf_counter(), breaker.time()
        outcome = "failed"
        failed: bool | None = None
        try:
            async with Deadline(until - now):
                local = self._local.get(operation)
                answer: Res = await (local(request) if local else self._remote(operation, request, until))
            outcome, failed = "ok", False
            return answer
        except Problem as problem:
            failed = faults.has_failed_by(problem)
            if problem.status >= 500:
                problem.fault = faults.DEPENDENCY  # whoever asked us has us to thank for nothing of this
            else:
                outcome = "refused"
            raise
        except TimeoutError:
            outcome = "deadline"
            if until - now >= min(operation.seconds, FAIR_SECONDS):
                failed = breaker.silent_since(asked)
            late = DeadlineExceeded(f"{operation.service} did not answer {operation.name} within {until - now:.3g} s")
            late.fault = faults.DEPENDENCY
            raise late from None
        except CONNECTION_LOST:
            failed = True if local else None  # a backend of the callee, or the one that says where it is
            raise
        finally:
            breaker.book(failed)
            telemetry.CALLS.labels(self.service, operation.service, operation.name, outcome).observe(time.perf_counter() - started)

    async def _remote(self, operation: Operation[Req, Res], request: Req, until: float) -> Res:
        budget = self._budgets.setdefault(operation.service, RetryBudget())
        budget.called()
        body = request.model_dump_json().encode()
        tried: set[str] = set()
        spent = 1
        while True:
            endpoint = await self._discovery.locate(operation.service, tried)
            fresh = endpoint.url not in tried
            tried.add(endpoint.url)
            try:
                return await self._attempt(endpoint, operation, body, until)
            except (httpx2.TransportError, Unavailable) as error:
                unsent = isinstance(error, faults.UNSENT) and self._discovery.policy(operation.service).retry.unsent
                moves = fresh and len(tried) < MOST_ENDPOINTS and (unsent or (operation.repeatable and faults.is_lost(error)))
                if not moves:
                    if spent == ATTEMPTS or not (unsent or (operation.repeatable and budget.take())):
                        raise self._away(operation.service, error) from error
                    await asyncio.sleep(BACKOFF_SECONDS * 2 ** (spent - 1) * random.uniform(0.5, 1.5))
                    spent += 1
                telemetry.RETRIES.labels(self.service, operation.service).inc()

    @staticmethod
    def _away(service: str, error: Exception) -> Unavailable:
        if isinstance(error, Unavailable):
            return error
        telemetry.log.warning("a service can't be reached", target=service, error=repr(error))
        return Unavailable(f"{service} can't be reached now; try again", fault="" if faults.has_failed_by(error) else faults.UNKNOWN)

    async def _attempt(self, endpoint: Endpoint, operation: Operation[Req, Res], body: bytes, until: float) -> Res:
        failed: bool | None = None
        reached, asked = True, endpoint.breaker.time()
        try:
            answer = await self._post(endpoint, operation, body, until)
            failed = False
            return answer
        except (Problem, httpx2.TransportError) as error:
            failed = faults.has_failed_by(error)
            reached = not isinstance(error, faults.UNSENT)
            raise
        except asyncio.CancelledError:
            if asyncio.get_running_loop().time() >= until:  # else the caller has gone, which says nothing about the endpoint
                failed = endpoint.breaker.silent_since(asked)
            raise
        finally:
            endpoint.ended(failed=failed, reached=reached)

    async def _post(self, endpoint: Endpoint, operation: Operation[Req, Res], body: bytes, until: float) -> Res:
        headers = {
            "content-type": "application/json",
            "authorization": self._credentials(self.service, operation.service),
            "x-caravan-seconds": f"{max(0.001, until - asyncio.get_running_loop().time()):.3f}",
        }
        for name, value in (
            ("traceparent", telemetry.traceparent.get()),
            ("x-request-id", telemetry.request_id.get()),
            ("x-user-authorization", authorization.get()),
        ):
            if value:
                headers[name] = value
        timeout = httpx2.Timeout(operation.seconds, connect=self._discovery.policy(operation.service).timeouts.connect)
        response = await self._http.post(endpoint.url + operation.path, content=body, headers=headers, timeout=timeout)
        if response.status_code == 200:
            return operation.response.model_validate_json(response.content)
        raise _problem(operation, response)


def _problem(operation: Operation[Any, Any], response: httpx2.Response) -> Problem:
    try:
        document = response.json()
        detail, errors = str(document["detail"]), document.get("errors")
    except (ValueError, KeyError, TypeError):
        detail, errors = f"{operation.service} answered {response.status_code} to {operation.name}", None
    if response.status_code == 401:
        return Unauthorized(detail)
    if response.status_code == 429:
        return TooManyRequests(detail, retry_after=1)
    kind = _PROBLEMS.get(response.status_code)
    if kind is None or kind is Unavailable:
        # A status that nobody declares, such as 500, is a fault of this one request and leaves the service as it is.
        undeclared = response.status_code not in faults.COUNTED
        return Unavailable(detail, fault=faults.DEPENDENCY if undeclared else response.headers.get(faults.FAULT, ""))
    problem = kind(detail, errors=errors)
    problem.fault = response.headers.get(faults.FAULT, "")
    return problem
