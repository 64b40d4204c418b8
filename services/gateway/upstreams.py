"""Services of other processes: a request is sent over HTTP, and its answer streamed back."""

import asyncio
import random
import ssl
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import httpx2

from caravan import faults, telemetry
from caravan.breaker import Breaker, RetryBudget
from caravan.client import FAIR_SECONDS, MOST_ENDPOINTS
from caravan.database import CONNECTION_LOST
from caravan.endpoints import Endpoint
from caravan.errors import BadRequest, Busy, Problem, Unavailable
from caravan.http import FORWARDER, SECONDS, Receive, Scope, Send, forwarder_key
from caravan.service import Context
from caravan.snapshot import Policy
from caravan.telemetry import log
from services.gateway.forwarding import Headers, Limit, answered_headers

CALLS_SHARE = 0.9
"""Of the time that a service has: for what it asks of others. So it can still say itself what was wrong."""

IDLE_SECONDS = 120.0
"""Longest silence in a streamed answer; live status says something every 15 s."""
CLIENT_GONE = 499


class _ClientGone(Exception):
    """The client has closed the connection before its body was complete."""


async def _body(receive: Receive) -> bytes:
    """The whole body, before a connection of the service is taken for it: the client's time is no part of the service's."""
    whole = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        more = message.get("more_body", False)
        whole += message.get("body", b"")
    return bytes(whole)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Upstreams:
    """The services of other processes. Each has its own connections, breaker and retry budget, so that one that fails or hangs takes nothing from the others."""

    def __init__(self, context: Context[Any, Any]) -> None:
        self._context = context
        self._clients: dict[tuple[str, bool], httpx2.AsyncClient] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._tls = ssl.create_default_context()
        self._key = (FORWARDER, forwarder_key(context.secret))

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    def _client(self, service: str, stream: bool) -> httpx2.AsyncClient:
        """Streams have connections of their own: they last, and take none from the requests."""
        client = self._clients.get((service, stream))
        if client is None:
            most = self._context.settings.streams if stream else self._context.settings.connections
            # Idle connections are closed before the server's five seconds are over: no request is sent into one that is just being closed.
            limits = httpx2.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=3.0)
            client = self._clients[service, stream] = httpx2.AsyncClient(verify=self._tls, limits=limits, trust_env=False)
        return client

    async def forward(
        self, service: str, scope: Scope, headers: Headers, receive: Receive, send: Send, limit: Limit, *, stream: bool = False
    ) -> None:
        """Raises a Problem when no answer has begun."""
        try:
            body = await _body(receive)
        except _ClientGone:
            await _leave(send)
            return
        breaker = self._context.calls.breaker(service)
        if not breaker.allow():
            raise Unavailable(f"{service} is failing; it is asked again in a few seconds", retry_after=5)
        exchange = _Exchange(service, scope, headers, body, send, stream)
        answering = asyncio.ensure_future(self._exchange(exchange, breaker, limit))
        watching = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
                return
        finally:
            for task in (answering, watching):
                task.cancel()
            await asyncio.gather(answering, watching, return_exceptions=True)
        if not exchange.answered:
            await _leave(send)

    async def _exchange(self, exchange: "_Exchange", breaker: Breaker, limit: Limit) -> None:
        failed: bool | None = None
        try:
            endpoint, response = await self._open(exchange, breaker, limit)
            failed = _has_failed(response)
        except Problem as problem:
            failed = faults.has_failed_by(problem)
            raise
        finally:
            breaker.book(failed)
        exchange.answered = True
        send = exchange.send
        if exchange.stream:
            endpoint.ended(failed=failed)  # it is no request in hand any more: it may last for hours
        try:
            await send({"type": "http.response.start", "status": response.status_code, "headers": answered_headers(response.headers.raw)})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})
        except httpx2.TransportError as error:
            failed = faults.has_failed_by(error)
            raise
        finally:
            if not exchange.stream:
                endpoint.ended(failed=failed)
            await response.aclose()

    async def _open(self, exchange: "_Exchange", breaker: Breaker, limit: Limit) -> tuple[Endpoint, httpx2.Response]:
        """The answer's beginning, from an endpoint that is in use until the answer has ended."""
        named = self._context.discovery.policy(exchange.service).timeouts.request
        if named:
            limit = replace(limit, seconds=min(named, limit.seconds) if limit.read else named)
        exchange.headers.append((SECONDS, b"%.3f" % (limit.seconds * CALLS_SHARE)))
        asked = breaker.time()
        try:
            async with asyncio.timeout(limit.seconds):
                return await self._try(exchange)
        except TimeoutError:
            problem = limit.passed(exchange.service)
            problem.fault = "" if breaker.silent_since(asked) else faults.UNKNOWN
            raise problem from None

    async def _try(self, exchange: "_Exchange") -> tuple[Endpoint, httpx2.Response]:
        """Attempts at one endpoint after another, as the service's policy allows and its budget lets."""
        service = exchange.service
        policy = self._context.discovery.policy(service)
        budget = self._budgets.setdefault(service, RetryBudget())
        budget.ratio = policy.retry.budget_percent / 100
        budget.called()
        repeatable = exchange.scope["method"] in policy.retry.methods and not exchange.body
        tried: set[str] = set()
        spent = 0
        while True:
            endpoint = await self._locate(service, tried)
            fresh = endpoint.url not in tried
            tried.add(endpoint.url)
            last = spent == policy.retry.attempts
            try:
                response = await self._ask(endpoint, policy, exchange)
                if not repeatable or last or response.status_code not in policy.retry.codes or not budget.take():
                    return endpoint, response
                endpoint.ended(failed=_has_failed(response))
                await response.aclose()
                moves = False
            except (httpx2.TransportError, TimeoutError) as error:
                # Nobody has worked on what was not sent, and a read whose connection was lost is done again elsewhere at no charge.
                unsent = policy.retry.unsent and isinstance(error, faults.UNSENT)
                moves = fresh and len(tried) < MOST_ENDPOINTS and (unsent or (repeatable and faults.is_lost(error)))
                if not moves and (last or not (unsent or (repeatable and not isinstance(error, httpx2.ReadTimeout) and budget.take()))):
                    if isinstance(error, TimeoutError):
                        raise
                    raise _unreached(service, error) from error
            telemetry.RETRIES.labels(self._context.service, service).inc()
            if not moves:
                await asyncio.sleep(policy.retry.backoff * 2**spent * random.uniform(0.5, 1.5))
                spent += 1

    async def _locate(self, service: str, tried: set[str]) -> Endpoint:
        try:
            return await self._context.discovery.locate(service, tried)
        except CONNECTION_LOST as error:
            raise Unavailable(f"{service} can't be located now", fault=faults.UNKNOWN) from error

    async def _ask(self, endpoint: Endpoint, policy: Policy, exchange: "_Exchange") -> httpx2.Response:
        """One attempt. When there is no answer, the endpoint is out of use again."""
        asked = endpoint.breaker.time()
        try:
            async with asyncio.timeout(policy.timeouts.backend_request):
                request = _request(endpoint, policy, exchange, self._key)
                return await self._client(exchange.service, exchange.stream).send(request, stream=True)
        except httpx2.TransportError as error:
            endpoint.ended(failed=faults.has_failed_by(error), reached=not isinstance(error, faults.UNSENT))
            raise
        except (
            TimeoutError,
            asyncio.CancelledError,
        ) as error:  # a deadline, or the client's leaving: silence counts when nobody else was answered
            silent = isinstance(error, TimeoutError) or endpoint.breaker.time() - asked >= FAIR_SECONDS
            endpoint.ended(failed=endpoint.breaker.silent_since(asked) if silent else None)
            raise
        except BaseException:
            endpoint.ended(failed=None)
            raise


@dataclass(slots=True)
class _Exchange:
    """One request that is passed on."""

    service: str
    scope: Scope
    headers: Headers
    body: bytes
    send: Send
    stream: bool
    answered: bool = False


def _has_failed(response: httpx2.Response) -> bool | None:
    return faults.has_failed(response.status_code, response.headers.get(faults.FAULT, ""))


def _unreached(service: str, error: httpx2.TransportError) -> Problem:
    log.warning("a request was not passed on", target=service, error=repr(error))
    if isinstance(error, (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol)):
        return BadRequest("the request holds a header or a path that can't be passed on")
    if isinstance(error, httpx2.PoolTimeout):
        return Busy(f"too many requests for {service} are under way; try again")
    return Unavailable(f"{service} can't be reached now; try again")


def _request(endpoint: Endpoint, policy: Policy, exchange: _Exchange, key: tuple[bytes, bytes]) -> httpx2.Request:
    scope = exchange.scope
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    path = (scope.get("raw_path") or quote(scope["path"]).encode()).partition(b"?")[0]
    url = httpx2.URL(endpoint.url).copy_with(raw_path=path + query)
    timeout = httpx2.Timeout(connect=policy.timeouts.connect, read=IDLE_SECONDS, write=10.0, pool=1.0)
    passed = [header for header in exchange.headers if header[0] not in (b"host", b"content-length")]
    passed.append(key)
    return httpx2.Request(scope["method"], url, headers=passed, content=exchange.body or None, extensions={"timeout": timeout.as_dict()})


async def _leave(send: Send) -> None:
    """Nobody reads this answer; the metrics count it."""
    await send({"type": "http.response.start", "status": CLIENT_GONE, "headers": []})
    await send({"type": "http.response.body"})
