"""Forwards requests to services of other processes over HTTP and streams the answers back, with connections, circuit
breaker and retry budget for each service.
"""

import asyncio
import ssl
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import httpx2

from caravan import fault_attribution
from caravan.backoff import add_jitter, compute_exponential_backoff
from caravan.client import MAX_ENDPOINTS, MIN_BLAME_SECONDS
from caravan.database import CONNECTION_LOST
from caravan.discovery import Breaker, Endpoint, Policy, RetryBudget
from caravan.errors import BadRequest, CapacityExceeded, Problem, ServiceUnavailable
from caravan.http import FORWARDER_HEADER, SECONDS_HEADER, Receive, Scope, Send, derive_forwarder_key
from caravan.http_client import HttpClient
from caravan.http_connections import KeptConnections
from caravan.service import ServiceContext
from caravan.telemetry import log, metrics
from services.gateway.routing.client_connection import answer_client_closed, wait_for_disconnect
from services.gateway.routing.forwarding import Headers, ResponseTimeout, build_response_headers

CALLS_TIME_SHARE = 0.9
"""Of the time that a service has: for what it asks of others. So it can still say itself what was wrong."""

IDLE_SECONDS = 120.0
"""Longest silence in a streamed answer; live status says something every 15 s."""


class Upstreams:
    """The services of other processes. Each has its own connections, breaker and retry budget, so that one that fails
    or hangs takes nothing from the others.
    """

    def __init__(self, context: ServiceContext[Any, Any]) -> None:
        self._context = context
        self._clients: dict[tuple[str, bool], HttpClient] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._tls = ssl.create_default_context()
        self._forwarder_header = (FORWARDER_HEADER, derive_forwarder_key(context.secret))

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    def _get_client(self, service: str, stream: bool) -> HttpClient:
        """Streams have connections of their own: they last, and take none from the requests."""
        client = self._clients.get((service, stream))
        if client is None:
            max_connections = (
                self._context.settings.max_streams if stream else self._context.settings.max_connections_per_service
            )
            client = self._clients[service, stream] = HttpClient(
                transport=KeptConnections(max_connections, self._tls), trust_env=False
            )
        return client

    async def forward_request(
        self,
        service: str,
        scope: Scope,
        headers: Headers,
        body: bytes,
        receive: Receive,
        send: Send,
        timeout: ResponseTimeout,
        *,
        stream: bool = False,
    ) -> None:
        """`receive`: to hear when the client leaves. Raises a Problem when no answer has begun."""
        breaker = self._context.call.get_breaker(service)
        if not breaker.allow_call():
            raise ServiceUnavailable(f"{service} is failing; it is asked again in a few seconds", retry_after=5)
        exchange = _Exchange(service, scope, headers, body, send, stream)
        response_task = asyncio.ensure_future(self._run_exchange(exchange, breaker, timeout))
        disconnect_task = asyncio.ensure_future(wait_for_disconnect(receive))
        try:
            await asyncio.wait({response_task, disconnect_task}, return_when=asyncio.FIRST_COMPLETED)
            if response_task.done():
                response_task.result()
                return
        finally:
            for task in (response_task, disconnect_task):
                task.cancel()
            await asyncio.gather(response_task, disconnect_task, return_exceptions=True)
        if not exchange.is_answered:
            await answer_client_closed(send)

    async def _run_exchange(self, exchange: "_Exchange", breaker: Breaker, timeout: ResponseTimeout) -> None:
        failed: bool | None = None
        try:
            endpoint, response = await self._open_response(exchange, breaker, timeout)
            failed = _has_failed(response)
        except Problem as problem:
            failed = fault_attribution.has_failed_with(problem)
            raise
        finally:
            breaker.record_outcome(failed)
        exchange.is_answered = True
        send = exchange.send
        if exchange.is_stream:
            endpoint.release(has_failed=failed)  # no longer counted as a request in flight: it may last for hours
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": response.status_code,
                    "headers": build_response_headers(response.headers.raw),
                }
            )
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})
        except httpx2.TransportError as error:
            failed = fault_attribution.has_failed_with(error)
            raise
        finally:
            if not exchange.is_stream:
                endpoint.release(has_failed=failed)
            await response.aclose()

    async def _open_response(
        self, exchange: "_Exchange", breaker: Breaker, timeout: ResponseTimeout
    ) -> tuple[Endpoint, httpx2.Response]:
        """The answer's beginning, from an endpoint that is in use until the answer has ended."""
        policy_seconds = self._context.discovery.get_policy(exchange.service).timeouts.request
        if policy_seconds:
            timeout = replace(
                timeout, seconds=min(policy_seconds, timeout.seconds) if timeout.is_read else policy_seconds
            )
        exchange.headers.append((SECONDS_HEADER, b"%.3f" % (timeout.seconds * CALLS_TIME_SHARE)))
        requested_at = breaker.time()
        try:
            async with asyncio.timeout(timeout.seconds):
                return await self._try_endpoints(exchange)
        except TimeoutError:
            problem = timeout.build_error(exchange.service)
            problem.fault = "" if breaker.is_silent_since(requested_at) else fault_attribution.UNKNOWN
            raise problem from None

    async def _try_endpoints(self, exchange: "_Exchange") -> tuple[Endpoint, httpx2.Response]:
        """Attempts at one endpoint after another, as the service's policy allows and its budget lets."""
        service = exchange.service
        policy = self._context.discovery.get_policy(service)
        budget = self._budgets.setdefault(service, RetryBudget())
        budget.ratio = policy.retry.budget_percent / 100
        budget.record_call()
        is_repeatable = exchange.scope["method"] in policy.retry.methods and not exchange.body
        tried_urls: set[str] = set()
        retry_count = 0
        while True:
            endpoint = await self._locate_endpoint(service, tried_urls)
            is_new = endpoint.url not in tried_urls
            tried_urls.add(endpoint.url)
            is_last = retry_count == policy.retry.attempts
            try:
                response = await self._send_to_endpoint(endpoint, policy, exchange)
                if (
                    not is_repeatable
                    or is_last
                    or response.status_code not in policy.retry.codes
                    or not budget.try_spend()
                ):
                    return endpoint, response
                endpoint.release(has_failed=_has_failed(response))
                await response.aclose()
                is_moving = False
            except (httpx2.TransportError, TimeoutError) as error:
                # Nobody has worked on what was not sent, and a read whose connection was lost is done again elsewhere
                # at no charge.
                is_unsent = policy.retry.unsent and isinstance(error, fault_attribution.UNSENT_ERRORS)
                is_moving = (
                    is_new
                    and len(tried_urls) < MAX_ENDPOINTS
                    and (is_unsent or (is_repeatable and fault_attribution.is_connection_lost(error)))
                )
                if not is_moving and (
                    is_last
                    or not (
                        is_unsent
                        or (is_repeatable and not isinstance(error, httpx2.ReadTimeout) and budget.try_spend())
                    )
                ):
                    if isinstance(error, TimeoutError):
                        raise
                    raise _build_connection_problem(service, error) from error
            metrics.CALL_RETRIES.labels(self._context.service, service).inc()
            if not is_moving:
                await asyncio.sleep(add_jitter(compute_exponential_backoff(retry_count, policy.retry.backoff)))
                retry_count += 1

    async def _locate_endpoint(self, service: str, tried_urls: set[str]) -> Endpoint:
        try:
            return await self._context.discovery.acquire_endpoint(service, tried_urls)
        except CONNECTION_LOST as error:
            raise ServiceUnavailable(f"{service} can't be located now", fault=fault_attribution.UNKNOWN) from error

    async def _send_to_endpoint(self, endpoint: Endpoint, policy: Policy, exchange: "_Exchange") -> httpx2.Response:
        """One attempt. When there is no answer, the endpoint is out of use again."""
        requested_at = endpoint.breaker.time()
        try:
            async with asyncio.timeout(policy.timeouts.backend_request):
                request = _build_request(endpoint, policy, exchange, self._forwarder_header)
                return await self._get_client(exchange.service, exchange.is_stream).send(request, stream=True)
        except httpx2.TransportError as error:
            endpoint.release(
                has_failed=fault_attribution.has_failed_with(error),
                was_reached=not isinstance(error, fault_attribution.UNSENT_ERRORS),
            )
            raise
        except (
            TimeoutError,
            asyncio.CancelledError,
        ) as error:  # a deadline, or the client's leaving: silence counts when nobody else was answered
            is_silent = isinstance(error, TimeoutError) or endpoint.breaker.time() - requested_at >= MIN_BLAME_SECONDS
            endpoint.release(has_failed=endpoint.breaker.is_silent_since(requested_at) if is_silent else None)
            raise
        except BaseException:
            endpoint.release(has_failed=None)
            raise


@dataclass(slots=True)
class _Exchange:
    """One request that is passed on."""

    service: str
    scope: Scope
    headers: Headers
    body: bytes
    send: Send
    is_stream: bool
    is_answered: bool = False


def _has_failed(response: httpx2.Response) -> bool | None:
    return fault_attribution.has_failed(response.status_code, response.headers.get(fault_attribution.FAULT_HEADER, ""))


def _build_connection_problem(service: str, error: httpx2.TransportError) -> Problem:
    log.warning("a request was not passed on", target=service, error=repr(error))
    if isinstance(error, (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol)):
        return BadRequest("the request holds a header or a path that can't be passed on")
    if isinstance(error, httpx2.PoolTimeout):
        return CapacityExceeded(f"too many requests for {service} are under way; try again")
    return ServiceUnavailable(f"{service} can't be reached now; try again")


def _build_request(endpoint: Endpoint, policy: Policy, exchange: _Exchange, key: tuple[bytes, bytes]) -> httpx2.Request:
    scope = exchange.scope
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    path = (scope.get("raw_path") or quote(scope["path"]).encode()).partition(b"?")[0]
    url = httpx2.URL(endpoint.url).copy_with(raw_path=path + query)
    timeout = httpx2.Timeout(connect=policy.timeouts.connect, read=IDLE_SECONDS, write=10.0, pool=1.0)
    forwarded_headers = [header for header in exchange.headers if header[0] not in (b"host", b"content-length")]
    forwarded_headers.append(key)
    return httpx2.Request(
        scope["method"],
        url,
        headers=forwarded_headers,
        content=exchange.body or None,
        extensions={"timeout": timeout.as_dict()},
    )
