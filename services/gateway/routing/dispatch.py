"""Passes a request on to the service that has it: to its application when it shares this process, else over HTTP.

`app.py` does so with what clients ask, `graphql/` with what an operation of theirs needs.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from caravan.http import App, Receive, Scope, Send
from caravan.service import ServiceContext
from services.gateway.limits import READ_METHODS
from services.gateway.routing.client_connection import (
    ClientDisconnected,
    answer_client_closed,
    read_body,
    replay_body,
)
from services.gateway.routing.forwarding import Headers, ResponseTimeout, forward_in_process
from services.gateway.routing.request_slots import RequestSlots
from services.gateway.routing.trie import OWN_SERVICE
from services.gateway.settings import Settings


@dataclass(slots=True)
class ForwardRequest:
    """As it is passed on."""

    service: str
    scope: Scope
    headers: Headers
    peer: str
    receive: Receive
    send: Send


class Dispatcher:
    def __init__(self, context: ServiceContext[Settings, Any], own: App) -> None:
        """`own`: the gateway's own application."""
        self._context = context
        self._own = own
        self._slots: dict[str, RequestSlots] = {}

    async def forward_request(self, request: ForwardRequest, *, stream: bool = False) -> None:
        """Raises a Problem when no answer has begun."""
        try:
            body = await read_body(request.receive)
        except ClientDisconnected:
            await answer_client_closed(request.send)
            return
        if stream or request.service == OWN_SERVICE:  # what the gateway's own routes ask of services is counted there
            await self._forward(request, body, request.send, stream=stream)
            return
        slots = self._slots.get(request.service)
        if slots is None:
            slots = self._slots[request.service] = RequestSlots(request.service, self._context.settings)
        is_slow = self._is_slow_read(request.service, request.scope)
        acquired_at = await slots.acquire()
        is_held = True

        async def send_message(message: MutableMapping[str, Any]) -> None:
            nonlocal is_held
            if is_held:
                is_held = False
                slots.release(acquired_at, is_slow=is_slow)
            await request.send(message)

        try:
            await self._forward(request, body, send_message)
        finally:
            if is_held:
                slots.release(acquired_at, is_slow=is_slow)

    async def _forward(self, request: ForwardRequest, body: bytes, send: Send, *, stream: bool = False) -> None:
        app = self._own if request.service == OWN_SERVICE else self._context.peers.get(request.service)
        timeout = self._choose_timeout(request.service, request.scope)
        if app is not None:
            receive = replay_body(body, request.receive)
            await forward_in_process(app, request.scope, request.headers, request.peer, receive, send, timeout)
        else:
            await self._context.resources.upstreams.forward_request(
                request.service, request.scope, request.headers, body, request.receive, send, timeout, stream=stream
            )

    def _choose_timeout(self, service: str, scope: Scope) -> ResponseTimeout:
        settings = self._context.settings
        if scope["method"] not in READ_METHODS:
            return ResponseTimeout(settings.timeout_seconds, is_read=False)
        is_slow = self._is_slow_read(service, scope)
        return ResponseTimeout(settings.timeout_seconds if is_slow else settings.read_timeout_seconds, is_read=True)

    def _is_slow_read(self, service: str, scope: Scope) -> bool:
        """It may take as long as a write, such as a report."""
        return scope["method"] in READ_METHODS and (
            service == OWN_SERVICE or self._context.resources.table.is_slow(service, scope["path"])
        )
