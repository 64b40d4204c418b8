"""Opens sockets at `/graphql`: a handshake is admitted like any request, or answered with a problem document.

A browser sends the pages of any site here with the same ease, and asks nobody first: only pages of the shop's own
origin are taken, and clients that are no browsers. The token comes in the header `Authorization`, which browsers can't
send, or in the first message (`sockets.py`).
"""

from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from caravan import telemetry
from caravan.clock import new_id
from caravan.errors import Forbidden, NotFound, Unauthorized
from caravan.http import Receive, Scope, Send, convert_to_problem, make_problem_response, refuse_repeated_headers
from services.gateway.admission import read_host
from services.gateway.graphql.setup import Graph
from services.gateway.graphql.socket_messages import SUBPROTOCOL, SUBPROTOCOL_NOT_ACCEPTABLE
from services.gateway.graphql.socket_operations import SocketClient
from services.gateway.graphql.sockets import GraphSocket
from services.gateway.routing.trie import OWN_SERVICE

_HTTP_SCHEMES = {"ws": "http", "wss": "https"}
_DEFAULT_PORTS = {"http": 80, "https": 443}


class SocketHandshake:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        telemetry.request_id.set(str(new_id()))
        telemetry.service_name.set(OWN_SERVICE)
        telemetry.traceparent.set(telemetry.new_traceparent())
        await receive()  # websocket.connect
        has_begun = False

        async def send_message(message: Scope) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            if SUBPROTOCOL not in scope["subprotocols"]:
                await send_message({"type": "websocket.accept"})
                reason = f"ask for the subprotocol {SUBPROTOCOL}"
                await send({"type": "websocket.close", "code": SUBPROTOCOL_NOT_ACCEPTABLE, "reason": reason})
                return
            client = await self._admit_client(scope)
            await GraphSocket(self._graph, client, receive, send_message).serve()
        except Exception as error:
            if has_begun:
                raise
            problem = convert_to_problem(error, scope["path"])
            await make_problem_response(problem, scope["path"])(scope, receive, send)

    async def _admit_client(self, scope: Scope) -> SocketClient:
        headers = dict(scope["headers"])
        refuse_repeated_headers(scope["headers"])
        admission = self._graph.admission
        host = read_host(scope)
        match = await admission.match_route(scope["path"], "GET", host)
        if match.service != OWN_SERVICE:
            raise NotFound(f"there are no WebSockets at {scope['path']}")
        peer, scheme = admission.find_client({**scope, "scheme": _HTTP_SCHEMES[scope["scheme"]]})
        rate_class = self._graph.context.resources.rate_classes.choose_class("GET", match.template)
        token = headers[b"authorization"].decode("latin-1") if b"authorization" in headers else None
        operation = f"GET {match.template}"
        try:
            caller = await admission.identify_caller(match.rule, rate_class, peer, token, may_wait=True)
            await admission.count_request(match.rule, rate_class, peer, caller)
            check_origin(headers)
        except (Forbidden, Unauthorized) as refused:
            admission.note_refusal(operation, peer, None, refused.status, refused.detail)
            raise
        http_scope = {**scope, "type": "http", "method": "GET", "scheme": scheme, "client": (peer, 0)}
        return SocketClient(http_scope, match.rule, rate_class, operation, peer, caller, token)


def check_origin(headers: Mapping[bytes, bytes]) -> None:
    """Raises Forbidden for a page of another origin than the host that was asked. Schemes are not compared: behind a
    proxy that ends TLS and isn't trusted, ours is not the one that the page has.
    """
    given = headers.get(b"origin")
    if given is None:
        return
    with suppress(ValueError):  # a port that is no number
        origin = urlsplit(given.decode("latin-1"))
        host = urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}")
        default_port = _DEFAULT_PORTS.get(origin.scheme)
        if (
            default_port is not None
            and origin.hostname == host.hostname
            and (origin.port or default_port) == (host.port or default_port)
        ):
            return
    raise Forbidden("a page of another origin may open no socket here")
