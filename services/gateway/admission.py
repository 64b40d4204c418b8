"""Lets a request through: finds its client, its public route and its caller, counts it against the limit there, and
notes who is refused.

`app.py` asks it for each request of a client, `graphql/` for each socket, each operation on one, and each call that an
operation makes, so that the rules of a routing snapshot hold for all alike.
"""

import re

from caravan.auth import Caller
from caravan.discovery.routing_snapshot import RateLimit
from caravan.discovery.routing_snapshot import Route as Rule
from caravan.errors import BadRequest, NotFound, ServiceUnavailable, Unauthorized
from caravan.http import Scope
from caravan.http.client_ip import Networks, get_network, resolve_client_ip
from caravan.refusals import ANONYMOUS
from services.gateway.limits import RateClass, RateClasses, TokenLease
from services.gateway.metrics import REFUSED
from services.gateway.routing.rules import RouteMatch
from services.gateway.use_cases import GatewayContext

HOST_PATTERN = re.compile(rb"([A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")


class Admission:
    def __init__(self, context: GatewayContext) -> None:
        self._verifier = context.verifier
        self._resources = context.resources
        self._trusted_networks: Networks = context.settings.trusted_networks

    def find_client(self, scope: Scope) -> tuple[str, str]:
        """Its address and the scheme that it used: those of the connection, or what a trusted proxy says."""
        peer = scope["client"][0] if scope.get("client") else "unknown"
        scheme: str = scope["scheme"]
        if not self._trusted_networks:
            return peer, scheme
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = headers[name] + b"," + value if name in headers else value
        forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1")
        address = resolve_client_ip(peer, forwarded, self._trusted_networks)
        forwarded_scheme = headers.get(b"x-forwarded-proto", b"").decode("latin-1")
        return address, forwarded_scheme if address != peer and forwarded_scheme in ("http", "https") else scheme

    async def match_route(self, path: str, method: str, host: str) -> RouteMatch:
        """Raises NotFound for a path that is not public, and ServiceUnavailable while that is not known."""
        table = self._resources.table
        match = await table.match_route(path, method, host)
        if match is not None:
            return match
        unreached = table.find_unreached_services(path)
        if unreached:
            raise ServiceUnavailable(
                f"what is served at {path} is not known yet, not reached: {', '.join(sorted(unreached))}",
                retry_after=2,
            )
        raise NotFound(f"nothing is served at {path}; GET /docs lists what is")

    async def identify_caller(
        self, rule: Rule, rate_class: RateClass, peer: str, authorization_header: str | None, *, may_wait: bool = False
    ) -> Caller | None:
        """By the token. With a bad one the request counts, too. `may_wait`: a missing one may still come. Raises
        Unauthorized.
        """
        header = authorization_header if rule.auth != "None" else None
        try:
            if header is not None:
                return await self._verify_caller(header, rate_class)
            if not may_wait:
                require_token(rule)
        except Unauthorized:
            await self._resources.rate_limiter.take_token(rate_class, get_network(peer))
            raise
        return None

    async def _verify_caller(self, authorization_header: str, rate_class: RateClass) -> Caller | None:
        scheme, _, token = authorization_header.partition(" ")
        if scheme.lower() == "basic" and rate_class.name == RateClasses.AUTH_CLASS:
            return None  # a client shows its secret to the token endpoint
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("send the access token as `Authorization: Bearer <token>`")
        caller = await self._verifier.verify(token.strip())
        await self._resources.sessions.require_open(caller)
        return caller

    async def count_request(
        self, rule: Rule, rate_class: RateClass, peer: str, caller: Caller | None
    ) -> tuple[RateClass, TokenLease]:
        """Against the limit of the user, or of the address without a token. Admins have a class of their own; a limit
        that a rule sets holds for them, too. Raises TooManyRequests.
        """
        address, limiter = get_network(peer), self._resources.rate_limiter
        if rule.rate_limit is not None:
            rate_class = RateClass(rule.name, rule.rate_limit.requests, seconds=rule.rate_limit.period)
            return rate_class, await limiter.take_token(rate_class, _choose_rule_key(rule.rate_limit, address, caller))
        if caller is not None and caller.role == "admin":
            rate_class = self._resources.rate_classes.admins
        caller_key = address if caller is None or rate_class.is_by_address else caller.subject
        return rate_class, await limiter.take_token(rate_class, caller_key)

    def note_refusal(self, operation: str, peer: str, caller: Caller | None, status: int, reason: str) -> None:
        """Somebody was refused for want of a right: for the metric and the audit log. `operation`: its method and the
        template of its path.
        """
        REFUSED.labels(status).inc()
        actor = caller.audit_name if caller else ANONYMOUS
        self._resources.refusals.record_refusal(status, actor, get_network(peer), operation, reason)


def require_token(rule: Rule) -> None:
    """For a request without one. Raises Unauthorized where the rule asks for it."""
    if rule.auth == "Required":
        raise Unauthorized("this path needs an access token: send `Authorization: Bearer <token>`")


def read_host(scope: Scope) -> str:
    """As the client named it, without the port. An IPv6 address keeps its brackets."""
    host_header: bytes | None = next((value for name, value in scope["headers"] if name == b"host"), None)
    if host_header is None:
        if scope["http_version"] == "1.1":
            raise BadRequest("the header host is missing; say which host the request is for")
        return ""
    host_match = HOST_PATTERN.fullmatch(host_header)
    if host_match is None:
        raise BadRequest("the header host is no name of a host with or without a port")
    return host_match[1].decode("ascii").lower()


def _choose_rule_key(limit: RateLimit, address: str, caller: Caller | None) -> str:
    return {"Route": "everyone", "Address": address, "User": caller.subject if caller else address}[limit.key]
