"""The gateway's application: each request is matched, checked and counted here, then passed on to its service.

The gateway's own routes are in `api.py`; `routing/` finds and reaches the service.
"""

import asyncio
from collections.abc import Callable, Collection, MutableMapping
from functools import partial
from typing import Any

from fastapi.routing import APIRoute

from caravan.auth import Caller
from caravan.client import authorization
from caravan.errors import Unauthorized
from caravan.fault_attribution import FAILURE_STATUSES, FAULT_HEADER
from caravan.http import App, Receive, RequestMiddleware, Scope, Send, create_app, format_allow_header
from caravan.http.client_ip import get_network
from caravan.refusals import REFUSAL_STATUSES, extract_reason
from services.gateway.admin import dead_letters, job_admin
from services.gateway.admission import Admission, read_host
from services.gateway.api import router
from services.gateway.console import routes as console_routes
from services.gateway.console.setup import build_console
from services.gateway.graphql import api as graph_api
from services.gateway.graphql.handshake import SocketHandshake
from services.gateway.graphql.setup import build_graph
from services.gateway.limits import RateClass, TokenLease
from services.gateway.reference.documents import ApiReference
from services.gateway.routing.dispatch import Dispatcher, ForwardRequest
from services.gateway.routing.forwarding import build_onward_headers
from services.gateway.routing.rules import rewrite_scope
from services.gateway.routing.trie import OWN_SERVICE
from services.gateway.system.collect import SystemStatusReader
from services.gateway.use_cases import GatewayContext

ROUTERS = (router, graph_api.router, dead_letters.router, job_admin.router, console_routes.router)


def build_app(context: GatewayContext) -> App:
    own = create_app(OWN_SERVICE, ROUTERS, context, context.verifier).fastapi  # type: ignore[attr-defined]
    own.router.routes[:] = [
        route for route in own.router.routes if isinstance(route, APIRoute)
    ]  # /openapi.json is the merged one
    own.state.reference = ApiReference(context.resources.table, context.url)
    context.resources.table.pages = tuple(
        route.path
        for route in (*router.routes, *graph_api.router.routes, *console_routes.router.routes)
        if isinstance(route, APIRoute) and not route.include_in_schema
    )
    dispatcher, admission = Dispatcher(context, own), Admission(context)
    own.state.graph = build_graph(context, admission, dispatcher)
    own.state.system = SystemStatusReader(context)
    serve_socket = SocketHandshake(own.state.graph)
    middleware = RequestMiddleware(GatewayApp(context, dispatcher, admission, serve_socket), OWN_SERVICE)
    middleware.fastapi = own
    own.state.console = build_console(context, middleware)
    return middleware


class GatewayApp:
    """Pure ASGI: what it costs is paid by every request."""

    def __init__(
        self, context: GatewayContext, dispatcher: Dispatcher, admission: Admission, serve_socket: App
    ) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._admission = admission
        self._serve_socket = serve_socket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._serve_socket(scope, receive, send)
            return
        resources = self._context.resources
        match = await self._admission.match_route(scope["path"], scope["method"], read_host(scope))
        scope["route_template"] = match.template
        peer, scheme = self._admission.find_client(scope)
        rate_class = resources.rate_classes.choose_class(scope["method"], match.template)
        caller: Caller | None = None
        operation = f"{scope['method']} {match.template}"
        try:
            caller = await self._admission.identify_caller(match.rule, rate_class, peer, authorization.get())
            rate_class, lease = await self._admission.count_request(match.rule, rate_class, peer, caller)
            headers = build_onward_headers(
                scope["headers"], address=peer, scheme=scheme, authorization=authorization.get()
            )
            note_refusal = partial(self._admission.note_refusal, operation, peer, caller)
            send_response = _add_allow_header(_add_limit_headers(send, rate_class, lease, note_refusal), match.methods)
            request = ForwardRequest(
                match.service, rewrite_scope(match.rule, scope), headers, peer, receive, send_response
            )
            if scope["method"] == "GET" and resources.table.is_stream(match.service, request.scope["path"]):
                await self._forward_stream(request, caller)
            else:
                await self._dispatcher.forward_request(request)
        except Unauthorized as refused:
            self._admission.note_refusal(operation, peer, caller, refused.status, refused.detail)
            raise

    async def _forward_stream(self, request: ForwardRequest, caller: Caller | None) -> None:
        """A live stream: one of a bounded number, and no longer than the session behind it."""
        streams = self._context.resources.streams
        has_begun, is_over, send = False, False, request.send

        async def send_message(message: MutableMapping[str, Any]) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        task = asyncio.current_task()
        assert task is not None

        def end_stream(_: asyncio.Future[None]) -> None:
            if not is_over:
                task.cancel()

        with streams.reserve_slot(caller, get_network(request.peer)) as slot:
            request.send = send_message
            slot.ended.add_done_callback(end_stream)
            try:
                await self._dispatcher.forward_request(request, stream=True)
                return
            except asyncio.CancelledError:
                if not slot.ended.done() or task.uncancel():
                    raise
            finally:
                is_over = True
        if not has_begun:
            raise Unauthorized("the session has ended; sign in again")
        await send({"type": "http.response.body"})


def _add_allow_header(send: Send, methods: Collection[str]) -> Send:
    """A service knows its own methods of a path alone; another service may have others."""

    async def send_message(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] == 405:
            headers = [header for header in message.get("headers", ()) if header[0] != b"allow"]
            message = {**message, "headers": [*headers, (b"allow", format_allow_header({*methods}).encode())]}
        await send(message)

    return send_message


def _add_limit_headers(
    send: Send, rate_class: RateClass, lease: TokenLease, note_refusal: Callable[[int, str], None]
) -> Send:
    """`note_refusal` is called with the status and reason of an answer that refuses for want of a right."""
    refusal_status = 0

    async def send_message(message: MutableMapping[str, Any]) -> None:
        nonlocal refusal_status
        if message["type"] == "http.response.start":
            headers = [
                *message.get("headers", ()),
                (b"ratelimit-policy", rate_class.policy_header),
                (b"ratelimit", lease.build_header(rate_class)),
            ]
            if (
                message["status"] in FAILURE_STATUSES
            ):  # whose fault it is, services of this process say to their callers
                headers = [header for header in headers if header[0] != FAULT_HEADER.encode()]
            elif message["status"] in REFUSAL_STATUSES:
                refusal_status = message["status"]
            message = {**message, "headers": headers}
        elif refusal_status:
            note_refusal(refusal_status, extract_reason(message.get("body", b"")))
            refusal_status = 0
        await send(message)

    return send_message
