"""The caller of operations: in one process the use case itself, otherwise HTTP, within a deadline and behind a circuit
breaker per target; what may be tried again is, within a retry budget.

`caravan/fault_attribution.py` decides whose fault a failed call is. `context.call` of every use case leads here.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
from opentelemetry.trace import SpanKind

from caravan import fault_attribution, telemetry
from caravan.backoff import add_jitter, compute_exponential_backoff
from caravan.client.operation import LocalOperation, Operation, Req, Res, authorization, deadline
from caravan.database import CONNECTION_LOST
from caravan.deadlines import Deadline
from caravan.discovery import DEFAULT_POLICY, Breaker, CircuitBreaker, Discovery, Endpoint, RetryBudget
from caravan.errors import DeadlineExceeded, Problem, ServiceUnavailable
from caravan.telemetry import metrics
from caravan.telemetry.http_spans import describe_call

ATTEMPTS = 3
BACKOFF_SECONDS = 0.05
MAX_ENDPOINTS = 5
"""Most that one request tries because connections to others were lost; that is no retry by the budget: nobody has
worked on it.
"""
MIN_BLAME_SECONDS = 1.0
"""Who was given less time than this is not blamed for its silence."""


class OperationClient:
    """`await context.call(OPERATION, request)`. Raises the callee's Problem, Unavailable (away, or breaker open) or
    DeadlineExceeded.
    """

    def __init__(
        self,
        service: str,
        local: Mapping[Operation[Any, Any], LocalOperation],
        discovery: Discovery,
        http: httpx2.AsyncClient,
        credentials: Callable[[str, str], str],
        address: str = "",
    ) -> None:
        """`address` is where other processes reach this one."""
        self.service = service
        self._address = address
        self._local = local
        self._discovery = discovery
        self._http = http
        self._credentials = credentials
        self._breakers: dict[str, Breaker] = {}
        self._breaker_settings: dict[str, CircuitBreaker] = {}
        self._budgets: dict[str, RetryBudget] = {}

    def get_breaker(self, target: str) -> Breaker:
        breaker = self._breakers.get(target)
        if breaker is None:
            gauge = metrics.BREAKER_STATE.labels(self.service, target)
            gauge.set(0)
            breaker = self._breakers[target] = Breaker(
                time.monotonic, on_change=lambda state: gauge.set({"closed": 0, "half-open": 1, "open": 2}[state])
            )
        breaker_settings = self._discovery.get_policy(target).circuit_breaker
        if self._breaker_settings.get(target, DEFAULT_POLICY.circuit_breaker) is not breaker_settings:
            self._breaker_settings[target] = breaker_settings
            breaker.configure(breaker_settings)
        return breaker

    def list_breakers(self) -> dict[str, Breaker]:
        """By the service that each stands before."""
        return dict(self._breakers)

    async def call_each_process(self, operation: Operation[Req, Res], request: Req) -> dict[str, Res | Problem]:
        """What every process that has the service answers, by its URL (this one's is empty), or why it does not. All
        are asked at the same time, each once: for questions about the processes themselves.
        """
        call_local, body = self._local.get(operation), request.model_dump_json().encode()

        async def ask_this_process(call: LocalOperation) -> Res:
            async with Deadline(operation.seconds):
                answer: Res = await call(request)
            return answer

        questions = {
            endpoint.url: self._ask_endpoint(endpoint, operation, body)
            for endpoint in await self._discovery.list_endpoints(operation.service)
            if call_local is None or endpoint.url != self._address
        }
        if call_local is not None:
            questions[""] = ask_this_process(call_local)
        answers = await asyncio.gather(*questions.values(), return_exceptions=True)
        return {url: _convert_failure(operation, answer) for url, answer in zip(questions, answers, strict=True)}

    async def _ask_endpoint(self, endpoint: Endpoint, operation: Operation[Req, Res], body: bytes) -> Res:
        if not endpoint.try_acquire():
            raise ServiceUnavailable(f"it is left out for now: {endpoint.breaker.cause}")
        async with Deadline(operation.seconds):
            expires_at = asyncio.get_running_loop().time() + operation.seconds
            return await self._attempt_call(endpoint, operation, body, expires_at)

    async def __call__(self, operation: Operation[Req, Res], request: Req) -> Res:
        breaker = self.get_breaker(operation.service)
        if not breaker.allow_call():
            raise ServiceUnavailable(
                f"{operation.service} is failing; it is asked again in a few seconds", retry_after=5
            )
        loop = asyncio.get_running_loop()
        now, caller_expires_at = loop.time(), deadline.get()
        seconds = operation.seconds
        if caller_expires_at is not None:
            seconds = max(0.0, min(seconds, caller_expires_at - now))
        started_at, requested_at = time.perf_counter(), breaker.time()
        outcome = "failed"
        failed: bool | None = None
        try:
            async with Deadline(seconds):
                call_local = self._local.get(operation)
                response: Res = await (
                    call_local(request) if call_local else self._call_remote(operation, request, now + seconds)
                )
            outcome, failed = "ok", False
            return response
        except Problem as problem:
            failed = fault_attribution.has_failed_with(problem)
            if problem.status >= 500:
                problem.fault = fault_attribution.DEPENDENCY  # whoever asked us has us to thank for nothing of this
            else:
                outcome = "refused"
            raise
        except TimeoutError:
            outcome = "deadline"
            if seconds >= min(operation.seconds, MIN_BLAME_SECONDS):
                failed = breaker.is_silent_since(requested_at)
            timeout_problem = DeadlineExceeded(
                f"{operation.service} did not answer {operation.name} within {seconds:.3g} s"
            )
            timeout_problem.fault = fault_attribution.DEPENDENCY
            raise timeout_problem from None
        except CONNECTION_LOST:
            failed = True if call_local else None  # a backend of the callee, or the one that says where it is
            raise
        finally:
            breaker.record_outcome(failed)
            metrics.CALL_DURATION.labels(self.service, operation.service, operation.name, outcome).observe(
                time.perf_counter() - started_at
            )

    async def _call_remote(self, operation: Operation[Req, Res], request: Req, expires_at: float) -> Res:
        budget = self._budgets.setdefault(operation.service, RetryBudget())
        budget.record_call()
        body = request.model_dump_json().encode()
        tried_urls: set[str] = set()
        attempts = 1
        while True:
            endpoint = await self._discovery.acquire_endpoint(operation.service, tried_urls)
            is_new_endpoint = endpoint.url not in tried_urls
            tried_urls.add(endpoint.url)
            try:
                return await self._attempt_call(endpoint, operation, body, expires_at)
            except (httpx2.TransportError, ServiceUnavailable) as error:
                is_unsent = (
                    isinstance(error, fault_attribution.UNSENT_ERRORS)
                    and self._discovery.get_policy(operation.service).retry.unsent
                )
                can_move = (
                    is_new_endpoint
                    and len(tried_urls) < MAX_ENDPOINTS
                    and (is_unsent or (operation.is_repeatable and fault_attribution.is_connection_lost(error)))
                )
                if not can_move:
                    if attempts == ATTEMPTS or not (is_unsent or (operation.is_repeatable and budget.try_spend())):
                        raise self._make_unavailable(operation.service, error) from error
                    await asyncio.sleep(add_jitter(compute_exponential_backoff(attempts - 1, BACKOFF_SECONDS)))
                    attempts += 1
                metrics.CALL_RETRIES.labels(self.service, operation.service).inc()

    @staticmethod
    def _make_unavailable(service: str, error: Exception) -> ServiceUnavailable:
        if isinstance(error, ServiceUnavailable):
            return error
        telemetry.log.warning("a service can't be reached", target=service, error=repr(error))
        return ServiceUnavailable(
            f"{service} can't be reached now; try again",
            fault="" if fault_attribution.has_failed_with(error) else fault_attribution.UNKNOWN,
        )

    async def _attempt_call(
        self, endpoint: Endpoint, operation: Operation[Req, Res], body: bytes, expires_at: float
    ) -> Res:
        failed: bool | None = None
        was_reached, requested_at = True, endpoint.breaker.time()
        try:
            response = await self._post_request(endpoint, operation, body, expires_at)
            failed = False
            return response
        except (Problem, httpx2.TransportError) as error:
            failed = fault_attribution.has_failed_with(error)
            was_reached = not isinstance(error, fault_attribution.UNSENT_ERRORS)
            raise
        except asyncio.CancelledError:
            if (
                asyncio.get_running_loop().time() >= expires_at
            ):  # else the caller has gone, which says nothing about the endpoint
                failed = endpoint.breaker.is_silent_since(requested_at)
            raise
        finally:
            endpoint.release(has_failed=failed, was_reached=was_reached)

    async def _post_request(
        self, endpoint: Endpoint, operation: Operation[Req, Res], body: bytes, expires_at: float
    ) -> Res:
        headers = {
            "content-type": "application/json",
            "authorization": self._credentials(self.service, operation.service),
            "x-caravan-seconds": f"{max(0.001, expires_at - asyncio.get_running_loop().time()):.3f}",
        }
        for name, value in (
            ("x-request-id", telemetry.request_id.get()),
            ("x-user-authorization", authorization.get()),
        ):
            if value:
                headers[name] = value
        timeout = httpx2.Timeout(
            operation.seconds, connect=self._discovery.get_policy(operation.service).timeouts.connect
        )
        with telemetry.start_span(f"POST {operation.url_path}", SpanKind.CLIENT) as span:
            headers["traceparent"] = telemetry.traceparent.get() or ""
            response = await self._http.post(
                endpoint.url + operation.url_path, content=body, headers=headers, timeout=timeout
            )
            if telemetry.is_recording():
                describe_call(span, "POST", operation.url_path, endpoint.url, response.status_code)
        if response.status_code == 200:
            return operation.response.model_validate_json(response.content)
        raise fault_attribution.build_problem(
            response, fallback=f"{operation.service} answered {response.status_code} to {operation.name}"
        )


def _convert_failure(operation: Operation[Req, Res], answer: Res | BaseException) -> Res | Problem:
    """The answer, or what is said instead of it."""
    if not isinstance(answer, BaseException) or isinstance(answer, Problem):
        return answer
    if isinstance(answer, TimeoutError):
        return DeadlineExceeded(f"no answer to {operation.name} within {operation.seconds:.3g} s")
    if not isinstance(answer, (httpx2.TransportError, *CONNECTION_LOST)):
        raise answer
    return ServiceUnavailable(f"it can't be reached ({type(answer).__name__})")
