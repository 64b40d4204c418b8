"""The door: every request is matched, checked and counted here, then passed on; a few routes are the gateway's own."""

import asyncio
import re
from collections.abc import Callable, Collection, MutableMapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from prometheus_client import Counter

from caravan.auth import Caller, Customer
from caravan.client import authorization
from caravan.errors import BadRequest, NotFound, Unauthorized, Unavailable
from caravan.faults import COUNTED, FAULT
from caravan.http import FREE_PARAMETERS, App, Edge, Receive, Scope, Send, allow, create_app, json_response
from caravan.http.addresses import Networks, client_address, network_of
from caravan.refusals import ANONYMOUS, STATUSES, reason_of
from caravan.snapshot import RateLimit
from caravan.snapshot import Route as Rule
from services.gateway import failure_desk, job_desk, pages, use_cases
from services.gateway.asyncapi import describe
from services.gateway.faces import channels
from services.gateway.forwarding import Headers, Limit, forward_here, onward_headers
from services.gateway.limits import READS, Lease, Policies, Policy
from services.gateway.openapi import merge
from services.gateway.routing import OWN
from services.gateway.rules import rewritten
from services.gateway.schemas import Overview
from services.gateway.use_cases import GatewayContext

VERSION = version("caravan")
REFUSED = Counter("caravan_gateway_refused_total", "Requests refused for want of a right", ["status"])
HOST = re.compile(rb"([A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")

router = APIRouter(tags=["gateway"])
OPEN = {FREE_PARAMETERS: ""}
"""Of pages: whoever links to one may have added parameters of their own, such as what a campaign is called."""


@router.get("/v1/me/overview", response_model=Overview)
async def get_overview(request: Request, caller: Customer) -> Response:
    """You, your last orders and what we recommend, with its stock. A part of the shop that is away is left out and named."""
    return json_response(await use_cases.read_overview(request.app.state.context, caller.user_id))


@router.get("/openapi.json", include_in_schema=False)
async def get_openapi(request: Request) -> Response:
    return Response(request.app.state.reference.openapi(), media_type="application/json")


@router.get("/asyncapi.json", include_in_schema=False)
async def get_asyncapi(request: Request) -> Response:
    return Response(request.app.state.reference.asyncapi, media_type="application/json")


@router.get("/", include_in_schema=False, openapi_extra=OPEN)
async def landing_page(request: Request) -> Response:
    return pages.LANDING.response(request.app.state.context.url)


@router.get("/docs", include_in_schema=False, openapi_extra=OPEN)
async def docs_page() -> Response:
    return pages.DOCS.response()


@router.get("/docs/messages", include_in_schema=False, openapi_extra=OPEN)
async def messages_page() -> Response:
    return pages.MESSAGES.response()


class Reference:
    """The generated documents, made again only when a service's routes have changed."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._version = -1
        self._openapi = b""
        self.asyncapi = orjson.dumps(describe(channels(), VERSION))

    def openapi(self) -> bytes:
        table = self._context.parts.table
        if table.version != self._version:
            self._openapi = orjson.dumps(merge(table.published(), self._context.url, VERSION))
            self._version = table.version
        return self._openapi


def build(context: GatewayContext) -> App:
    own = create_app(OWN, (router, failure_desk.router, job_desk.router), context, context.verifier).fastapi  # type: ignore[attr-defined]
    own.router.routes[:] = [route for route in own.router.routes if isinstance(route, APIRoute)]  # /openapi.json is the merged one
    own.state.reference = Reference(context)
    context.parts.table.pages = tuple(route.path for route in router.routes if isinstance(route, APIRoute) and not route.include_in_schema)
    edge = Edge(Gateway(context, own), OWN)
    edge.fastapi = own
    return edge


class Gateway:
    """Pure ASGI: what it costs is paid by every request."""

    def __init__(self, context: GatewayContext, own: FastAPI) -> None:
        self._context = context
        self._own: App = own
        self._trusted: Networks = context.settings.networks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        parts = self._context.parts
        match = await parts.table.match(scope["path"], scope["method"], _host(scope))
        if match is None:
            raise self._unmatched(scope)
        scope["route_template"] = match.template
        peer = scope["client"][0] if scope.get("client") else "unknown"
        scheme = scope["scheme"]
        if self._trusted:
            peer, scheme = self._behind_proxies(scope, peer)
        policy = parts.policies.of(scope["method"], match.template)
        caller: Caller | None = None
        try:
            policy, lease, caller = await self._admit(match.rule, policy, peer)
            headers = onward_headers(scope["headers"], address=peer, scheme=scheme, authorization=authorization.get())
            refuse = partial(self._note_refusal, scope, match.template, peer, caller)
            answer = _with_allow(_with_limits(send, policy, lease, refuse), match.methods)
            request = _Request(match.service, rewritten(match.rule, scope), headers, peer, receive, answer)
            if scope["method"] == "GET" and parts.table.is_stream(match.service, request.scope["path"]):
                await self._stream(request, caller)
            else:
                await self._forward(request)
        except Unauthorized as refused:
            self._note_refusal(scope, match.template, peer, caller, refused.status, refused.detail)
            raise

    def _note_refusal(self, scope: Scope, template: str, peer: str, caller: Caller | None, status: int, reason: str) -> None:
        REFUSED.labels(status).inc()
        actor = caller.name if caller else ANONYMOUS
        self._context.parts.refused.note(status, actor, network_of(peer), f"{scope['method']} {template}", reason)

    def _unmatched(self, scope: Scope) -> Exception:
        away = self._context.parts.table.away(scope["path"])
        if away:
            return Unavailable(f"what is served at {scope['path']} is not known yet, not reached: {', '.join(sorted(away))}", retry_after=2)
        return NotFound(f"nothing is served at {scope['path']}; GET /docs lists what is")

    async def _admit(self, rule: Rule, policy: Policy, peer: str) -> tuple[Policy, Lease, Caller | None]:
        """Check the token and count the request: for the user, or for the address without a token or with a bad one. Admins have a class of their own;
        a limit that a rule sets holds for them, too."""
        parts = self._context.parts
        given = authorization.get() if rule.auth != "None" else None
        address = network_of(peer)
        caller: Caller | None = None
        try:
            if given is not None:
                caller = await self._caller(given, policy)
            elif rule.auth == "Required":
                raise Unauthorized("this path needs an access token: send `Authorization: Bearer <token>`")
        except Unauthorized:
            await parts.limits.take(policy, address)
            raise
        if rule.rate_limit is not None:
            return *await self._count_by_rule(rule, rule.rate_limit, address, caller), caller
        if caller is not None and caller.role == "admin":
            policy = parts.policies.admins
        return policy, await parts.limits.take(policy, address if caller is None or policy.by_address else caller.subject), caller

    async def _count_by_rule(self, rule: Rule, limit: RateLimit, address: str, caller: Caller | None) -> tuple[Policy, Lease]:
        policy = Policy(rule.name, limit.requests, seconds=limit.period)
        who = {"Route": "everyone", "Address": address, "User": caller.subject if caller else address}[limit.key]
        return policy, await self._context.parts.limits.take(policy, who)

    async def _caller(self, given: str, policy: Policy) -> Caller | None:
        kind, _, token = given.partition(" ")
        if kind.lower() == "basic" and policy.name == Policies.AUTH_CLASS:
            return None  # a client shows its secret to the token endpoint
        if kind.lower() != "bearer" or not token:
            raise Unauthorized("send the access token as `Authorization: Bearer <token>`")
        caller = await self._context.verifier.verify(token.strip())
        await self._context.parts.sessions.require_open(caller)
        return caller

    def _behind_proxies(self, scope: Scope, peer: str) -> tuple[str, str]:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = headers[name] + b"," + value if name in headers else value
        address = client_address(peer, headers.get(b"x-forwarded-for", b"").decode("latin-1"), self._trusted)
        claimed = headers.get(b"x-forwarded-proto", b"").decode("latin-1")
        return address, claimed if address != peer and claimed in ("http", "https") else scope["scheme"]

    async def _stream(self, request: "_Request", caller: Caller | None) -> None:
        """A live stream: one of a bounded number, and no longer than the session behind it."""
        streams = self._context.parts.streams
        began, send = False, request.send

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal began
            began = True
            await send(message)

        with streams.hold(caller, network_of(request.peer)):
            request.send = answer
            streaming = asyncio.ensure_future(self._forward(request, stream=True))
            ending = asyncio.ensure_future(streams.ended(caller))
            try:
                await asyncio.wait({streaming, ending}, return_when=asyncio.FIRST_COMPLETED)
                if streaming.done():
                    streaming.result()
                    return
            finally:
                for task in (streaming, ending):
                    task.cancel()
                await asyncio.gather(streaming, ending, return_exceptions=True)
        if not began:
            raise Unauthorized("the session has ended; sign in again")
        await send({"type": "http.response.body"})

    async def _forward(self, request: "_Request", *, stream: bool = False) -> None:
        app = self._own if request.service == OWN else self._context.peers.get(request.service)
        limit = self._limit(request.service, request.scope)
        if app is not None:
            await forward_here(app, request.scope, request.headers, request.peer, request.receive, request.send, limit)
        else:
            upstreams = self._context.parts.upstreams
            await upstreams.forward(request.service, request.scope, request.headers, request.receive, request.send, limit, stream=stream)

    def _limit(self, service: str, scope: Scope) -> Limit:
        settings = self._context.settings
        if scope["method"] not in READS:
            return Limit(settings.seconds, read=False)
        slow = service == OWN or self._context.parts.table.is_slow(service, scope["path"])
        return Limit(settings.seconds if slow else settings.read_seconds, read=True)


@dataclass(slots=True)
class _Request:
    """As it is passed on."""

    service: str
    scope: Scope
    headers: Headers
    peer: str
    receive: Receive
    send: Send


def _host(scope: Scope) -> str:
    """As the client named it, without the port. An IPv6 address keeps its brackets."""
    given: bytes | None = next((value for name, value in scope["headers"] if name == b"host"), None)
    if given is None:
        if scope["http_version"] == "1.1":
            raise BadRequest("the header host is missing; say which host the request is for")
        return ""
    named = HOST.fullmatch(given)
    if named is None:
        raise BadRequest("the header host is no name of a host with or without a port")
    return named[1].decode("ascii").lower()


def _with_allow(send: Send, methods: Collection[str]) -> Send:
    """A service knows its own methods of a path alone; another service may have others."""

    async def answer(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] == 405:
            headers = [header for header in message.get("headers", ()) if header[0] != b"allow"]
            message = {**message, "headers": [*headers, (b"allow", allow({*methods}).encode())]}
        await send(message)

    return answer


def _with_limits(send: Send, policy: Policy, lease: Lease, refuse: Callable[[int, str], None]) -> Send:
    """`refuse` is told of an answer that refuses for want of a right, with its reason."""
    refused = 0

    async def answer(message: MutableMapping[str, Any]) -> None:
        nonlocal refused
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (b"ratelimit-policy", policy.header), (b"ratelimit", lease.header(policy))]
            if message["status"] in COUNTED:  # whose fault it is, services of this process say to their callers
                headers = [header for header in headers if header[0] != FAULT.encode()]
            elif message["status"] in STATUSES:
                refused = message["status"]
            message = {**message, "headers": headers}
        elif refused:
            refuse(refused, reason_of(message.get("body", b"")))
            refused = 0
        await send(message)

    return answer
