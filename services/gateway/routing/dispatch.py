"""Passes a request on to the service that has it: to its application when it shares this process, else over HTTP.

`app.py` does so with what clients ask, `graphql/` with what an operation of theirs needs.
"""

from dataclasses import dataclass
from typing import Any

from caravan.http import App, Receive, Scope, Send
from caravan.service import ServiceContext
from services.gateway.limits import READ_METHODS
from services.gateway.routing.forwarding import Headers, ResponseTimeout, forward_in_process
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

    async def forward_request(self, request: ForwardRequest, *, stream: bool = False) -> None:
        """Raises a Problem when no answer has begun."""
        app = self._own if request.service == OWN_SERVICE else self._context.peers.get(request.service)
        timeout = self._choose_timeout(request.service, request.scope)
        if app is not None:
            await forward_in_process(
                app, request.scope, request.headers, request.peer, request.receive, request.send, timeout
            )
        else:
            await self._context.resources.upstreams.forward_request(
                request.service, request.scope, request.headers, request.receive, request.send, timeout, stream=stream
            )

    def _choose_timeout(self, service: str, scope: Scope) -> ResponseTimeout:
        settings = self._context.settings
        if scope["method"] not in READ_METHODS:
            return ResponseTimeout(settings.timeout_seconds, is_read=False)
        is_slow = service == OWN_SERVICE or self._context.resources.table.is_slow(service, scope["path"])
        return ResponseTimeout(settings.timeout_seconds if is_slow else settings.read_timeout_seconds, is_read=True)
