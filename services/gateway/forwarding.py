"""Passing a request on: to the application itself when the service shares this process, otherwise over HTTP, streaming both ways."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx2

from caravan import telemetry
from caravan.breaker import Breaker, RetryBudget
from caravan.client import UNSENT
from caravan.database import CONNECTION_LOST
from caravan.endpoints import Endpoint
from caravan.errors import DeadlineExceeded, Unavailable
from caravan.http import FORWARDER, App, Receive, Scope, Send, forwarder_key
from caravan.service import Context
from caravan.snapshot import Policy

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
REPLACED = frozenset({b"authorization", b"forwarded", b"traceparent", b"x-request-id", b"x-real-ip", b"x-user-authorization"})
"""What we set ourselves, or what only services may say."""
DROPPED = HOP_BY_HOP | REPLACED
UNTOUCHABLE = frozenset({b"host", b"content-length", b"content-type"})
"""What a client's Connection header can't take away."""
OURS = frozenset({b"date", b"server", b"x-request-id"})
"""Answered by the gateway itself."""

IDLE_SECONDS = 120.0
"""Longest silence in a streamed answer; live status says something every 15 s."""
CLIENT_GONE = 499


def onward_headers(headers: Headers, *, address: str, scheme: str, authorization: str | None) -> Headers:
    """What the service gets to see: nothing that belongs to the client's connection, and nothing that only we may claim."""
    kept: Headers = []
    host = b""
    named: set[bytes] = set()
    for header in headers:
        name = header[0]
        if name == b"connection":
            named |= {part.strip().lower() for part in header[1].split(b",")}
        elif name not in DROPPED and not name.startswith((b"x-forwarded-", b"x-caravan-")):
            kept.append(header)
            if name == b"host":
                host = header[1]
    named -= UNTOUCHABLE
    if named and named != {b"keep-alive"} and named != {b"close"}:
        kept = [header for header in kept if header[0] not in named]
    if authorization is not None:
        kept.append((b"authorization", authorization.encode("latin-1")))
    kept += (
        (b"x-forwarded-for", address.encode("latin-1")),
        (b"x-forwarded-proto", scheme.encode("latin-1")),
        (b"x-forwarded-host", host),
        (b"x-request-id", (telemetry.request_id.get() or "").encode("latin-1")),
        (b"traceparent", (telemetry.traceparent.get() or "").encode("latin-1")),
    )
    return kept


async def forward_here(app: App, scope: Scope, headers: Headers, address: str, receive: Receive, send: Send, seconds: float) -> None:
    """Call the service's application directly: the body, the answer's stream and the client's disconnect pass through as they are."""
    inner = {**scope, "headers": headers, "client": (address, 0)}
    try:
        async with asyncio.timeout(seconds) as deadline:

            async def answer(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    deadline.reschedule(None)
                await send(message)

            await app(inner, receive, answer)
    except TimeoutError:
        if not deadline.expired():
            raise
        raise DeadlineExceeded(f"no answer within {seconds:g} s") from None


class _ClientGone(Exception):
    """The client has closed the connection before its body was complete."""


@dataclass(slots=True)
class _Client:
    """The client's side of a connection: its body, and afterwards the news that it has gone."""

    receive: Receive
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    answered: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]
        self.taken.set()

    async def skip(self) -> None:
        async for _ in self.chunks():
            pass

    async def gone(self) -> None:
        await self.taken.wait()
        while (await self.receive())["type"] != "http.disconnect":
            pass


class Upstreams:
    """The services of other processes. Each has its own connections, breaker and retry budget, so that one that fails or hangs takes nothing from the others."""

    def __init__(self, context: Context[Any, Any]) -> None:
        self._context = context
        self._clients: dict[str, httpx2.AsyncClient] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._tls = ssl.create_default_context()
        self._key = (FORWARDER, forwarder_key(context.secret))

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    def _client(self, service: str) -> httpx2.AsyncClient:
        client = self._clients.get(service)
        if client is None:
            most = self._context.settings.connections
            # Idle connections are closed before the server's five seconds are over: no request is sent into one that is just being closed.
            limits = httpx2.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=3.0)
            client = self._clients[service] = httpx2.AsyncClient(verify=self._tls, limits=limits, trust_env=False)
        return client

    async def forward(self, service: str, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Raises Unavailable or DeadlineExceeded when no answer has begun."""
        breaker = self._context.calls.breaker(service)
        if not breaker.allow():
            raise Unavailable(f"{service} is failing; it is asked again in a few seconds", retry_after=5)
        client = _Client(receive)
        answering = asyncio.ensure_future(self._exchange(service, breaker, scope, headers, client, send))
        watching = asyncio.ensure_future(client.gone())
        try:
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
                return
        finally:
            for task in (answering, watching):
                task.cancel()
            await asyncio.gather(answering, watching, return_exceptions=True)
        if not client.answered:
            await _leave(send)

    async def _exchange(self, service: str, breaker: Breaker, scope: Scope, headers: Headers, client: _Client, send: Send) -> None:
        try:
            endpoint, response = await self._open(service, scope, headers, client)
        except (Unavailable, DeadlineExceeded):
            breaker.failed()
            raise
        except _ClientGone:
            breaker.succeeded()
            await _leave(send)
            return
        except BaseException:  # our own refusal of the body, or the client's leaving: nothing that the service has done
            breaker.succeeded()
            raise
        failed: bool | None = response.status_code >= 500
        (breaker.failed if failed else breaker.succeeded)()
        client.answered = True
        try:
            await send({"type": "http.response.start", "status": response.status_code, "headers": _answered(response)})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})
        except httpx2.TransportError:
            failed = True
            raise
        finally:
            endpoint.ended(failed=failed)
            await response.aclose()

    async def _open(self, service: str, scope: Scope, headers: Headers, client: _Client) -> tuple[Endpoint, httpx2.Response]:
        """The answer's beginning, from an endpoint that is in use until the answer has ended."""
        seconds = self._context.discovery.policy(service).timeouts.request or self._context.settings.seconds
        empty = not any(name == b"content-length" and value != b"0" for name, value in headers) and not _chunked(scope)
        try:
            async with asyncio.timeout(seconds):
                if empty:
                    await client.skip()
                return await self._try(service, scope, headers, None if empty else client)
        except TimeoutError:
            raise DeadlineExceeded(f"{service} did not answer within {seconds:g} s") from None

    async def _try(self, service: str, scope: Scope, headers: Headers, body: _Client | None) -> tuple[Endpoint, httpx2.Response]:
        """Attempts at one endpoint after another, as the service's policy allows and its budget lets."""
        policy = self._context.discovery.policy(service)
        budget = self._budgets.setdefault(service, RetryBudget())
        budget.ratio = policy.retry.budget_percent / 100
        budget.called()
        repeatable = scope["method"] in policy.retry.methods and body is None
        tried: set[str] = set()
        for attempt in range(policy.retry.attempts + 1):
            endpoint = await self._locate(service, tried)
            tried.add(endpoint.url)
            last = attempt == policy.retry.attempts
            try:
                response = await self._ask(service, endpoint, policy, scope, headers, body)
                if not repeatable or last or response.status_code not in policy.retry.codes or not budget.take():
                    return endpoint, response
                endpoint.ended(failed=True)
                await response.aclose()
            except (httpx2.TransportError, TimeoutError) as error:
                free = policy.retry.unsent and isinstance(error, UNSENT)  # it has cost nobody anything
                if last or not (free or (repeatable and not isinstance(error, httpx2.ReadTimeout) and budget.take())):
                    if isinstance(error, TimeoutError):
                        raise
                    raise Unavailable(f"{service} can't be reached: {type(error).__name__}") from error
            telemetry.RETRIES.labels(self._context.service, service).inc()
            await asyncio.sleep(policy.retry.backoff * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError("the loop returns or raises")

    async def _locate(self, service: str, tried: set[str]) -> Endpoint:
        try:
            return await self._context.discovery.locate(service, tried)
        except CONNECTION_LOST as error:
            raise Unavailable(f"{service} can't be located now") from error

    async def _ask(
        self, service: str, endpoint: Endpoint, policy: Policy, scope: Scope, headers: Headers, body: _Client | None
    ) -> httpx2.Response:
        """One attempt. When there is no answer, the endpoint is out of use again, and it has failed unless the client or the whole deadline ended it."""
        try:
            async with asyncio.timeout(policy.timeouts.backend_request):
                request = _request(endpoint, policy, scope, [*headers, self._key], body)
                return await self._client(service).send(request, stream=True)
        except (httpx2.TransportError, TimeoutError):
            endpoint.ended(failed=True)
            raise
        except BaseException:
            endpoint.ended(failed=None)
            raise


def _request(endpoint: Endpoint, policy: Policy, scope: Scope, headers: Headers, body: _Client | None) -> httpx2.Request:
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    path = (scope.get("raw_path") or quote(scope["path"]).encode()).partition(b"?")[0]
    url = httpx2.URL(endpoint.url).copy_with(raw_path=path + query)
    timeout = httpx2.Timeout(connect=policy.timeouts.connect, read=IDLE_SECONDS, write=10.0, pool=1.0)
    passed = [header for header in headers if header[0] != b"host"]
    content = None if body is None else body.chunks()
    return httpx2.Request(scope["method"], url, headers=passed, content=content, extensions={"timeout": timeout.as_dict()})


async def _leave(send: Send) -> None:
    """Nobody reads this answer; the metrics count it."""
    await send({"type": "http.response.start", "status": CLIENT_GONE, "headers": []})
    await send({"type": "http.response.body"})


def _chunked(scope: Scope) -> bool:
    return any(name == b"transfer-encoding" for name, _ in scope["headers"])


def _answered(response: httpx2.Response) -> Headers:
    raw = [(name.lower(), value) for name, value in response.headers.raw]
    named = {part.strip().lower() for name, value in raw if name == b"connection" for part in value.split(b",")}
    return [(name, value) for name, value in raw if name not in HOP_BY_HOP and name not in OURS and name not in named]
