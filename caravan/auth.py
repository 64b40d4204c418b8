"""Verifies access tokens, in the gateway and again in each service, with the published keys of their issuer.

Issuers are the shop itself, and the one outside the shop that identity may have been set to accept. Identity says which
user of the shop a token of the latter is; `caravan/token_issuers.py` checks what is the same for both.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol
from uuid import UUID

from fastapi import Depends, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from joserfc import jwt
from joserfc.jwk import OctKey

from caravan import telemetry
from caravan.errors import DeadlineExceeded, Forbidden, ServiceUnavailable, Unauthorized
from caravan.fault_attribution import DEPENDENCY
from caravan.fifo_cache import FifoCache
from caravan.token_issuers import LEEWAY_SECONDS, TokenIssuer, UnverifiedToken, reraise_unauthorized

Role = Literal["customer", "staff", "admin", "service"]
_ROLE_RANK: dict[str, int] = {"customer": 1, "staff": 2, "admin": 3}
"""Each role may do what the ones before it may; `service` stands apart."""

ALGORITHM = "EdDSA"
"""Of the shop's own tokens."""
AUDIENCE = "caravan"
_REFETCH_SECONDS = 5.0
_FIRST_KEYS_SECONDS = 1.0
"""The same while an outside issuer's first keys have not come: the shop starts, and its users wait."""
_KEY_LIFETIME_SECONDS = 300.0
_MAX_CACHED_TOKENS = 20_000
_EXTERNAL_TOKEN_SECONDS = 300.0
"""How long it is believed whose an outside issuer's token is: those may live for hours."""
_INTERNAL_TOKEN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Caller:
    """The verified caller. `subject` is the user's id (or the client's name); `actor` is who acts in the user's name,
    if anyone.
    """

    subject: str
    role: Role
    session: str
    actor: str | None = None
    expires_at: float = float("inf")
    """Unix time from which the token is refused."""

    @property
    def user_id(self) -> UUID:
        """Raises Forbidden for a client, such as the operator's command line: it has rights, but is no user."""
        try:
            return UUID(self.subject)
        except ValueError:
            raise Forbidden(f"this is for users; {self.subject} is a client") from None

    @property
    def audit_name(self) -> str:
        """As it stands in histories and the audit log."""
        return f"{self.actor} for {self.role}:{self.subject}" if self.actor else f"{self.role}:{self.subject}"

    def has_role(self, role: Role) -> bool:
        return _ROLE_RANK.get(self.role, 0) >= _ROLE_RANK.get(role, 99)

    def can_see(self, owner: UUID | str) -> bool:
        """An owner's things are for the owner and for staff."""
        return self.subject == str(owner) or self.has_role("staff")


class AcceptedToken(Protocol):
    """Whose an outside issuer's token is in this shop."""

    subject: str
    role: Role
    session: str


FetchKeys = Callable[[str], Awaitable[dict[str, Any]]]
AcceptToken = Callable[[str], Awaitable[AcceptedToken]]


async def _refuse_token(_: str) -> AcceptedToken:
    raise Unauthorized("the token was not issued for this shop")


class TokenVerifier:
    """Checks access tokens. `fetch_keys` returns the shop's own JWK set with its name, and that of an outside issuer
    where one is accepted: `{"issuer": ..., "keys": [...], "external": {"issuer": ..., "audience": ..., "algorithms":
    [...], "keys": [...]}}`. It gets the `kid` that is looked for, and is asked again for an unknown one at most every
    few seconds. `accept_token` says whose a verified token of the outside issuer is; raises Unauthorized.
    """

    def __init__(self, fetch_keys: FetchKeys, accept_token: AcceptToken = _refuse_token) -> None:
        self._fetch_keys = fetch_keys
        self._accept_token = accept_token
        self._own: TokenIssuer | None = None
        self._external: TokenIssuer | None = None
        self._requested_at = self._fetched_at = -_KEY_LIFETIME_SECONDS
        self._fetch_lock = asyncio.Lock()
        self._cache: FifoCache[str, tuple[Caller, float]] = FifoCache(_MAX_CACHED_TOKENS)

    async def verify(self, token: str) -> Caller:
        """The caller of a bearer token. Raises Unauthorized with the reason."""
        now = time.time()
        cached = self._cache.get(token)
        if cached is not None:
            if cached[1] > now:
                return cached[0]
            del self._cache[token]
        unverified = UnverifiedToken.parse(token)
        issuer = await self._find_issuer(unverified)
        claims = issuer.decode_token(unverified, now)
        known_until = float(claims["exp"]) + LEEWAY_SECONDS
        if issuer is self._own:
            with reraise_unauthorized("the token's claims are not readable"):
                caller = _build_caller(claims)
        else:
            accepted = await self._accept_token(token)
            caller = Caller(accepted.subject, accepted.role, accepted.session, expires_at=known_until)
            known_until = min(known_until, now + _EXTERNAL_TOKEN_SECONDS)
        self._cache[token] = (caller, known_until)
        return caller

    async def _find_issuer(self, token: UnverifiedToken) -> TokenIssuer:
        if self._is_outdated(token.kid):
            async with self._fetch_lock:  # one asks for all that wait
                if self._is_outdated(token.kid):
                    await self._refresh_keys(token.kid)
        external = self._external
        if external is not None and token.read_issuer_name() == external.name:
            if not external.key_ids:
                raise ServiceUnavailable(
                    f"the keys of {external.name} are not known yet; try again", retry_after=5, fault=DEPENDENCY
                )
            return external
        assert self._own is not None
        return self._own

    def _is_outdated(self, kid: str) -> bool:
        now = time.monotonic()
        if self._own is None:
            return True
        lacks_external_keys = self._external is not None and not self._external.key_ids
        return now - self._requested_at > (_FIRST_KEYS_SECONDS if lacks_external_keys else _REFETCH_SECONDS) and (
            not self._has_key(kid) or now - self._fetched_at > _KEY_LIFETIME_SECONDS
        )

    def _has_key(self, kid: str) -> bool:
        return any(issuer is not None and kid in issuer.key_ids for issuer in (self._own, self._external))

    async def _refresh_keys(self, kid: str) -> None:
        self._requested_at = time.monotonic()
        try:
            document = await self._fetch_keys(kid)
        except (ServiceUnavailable, DeadlineExceeded):
            if self._own is None:
                raise
            return
        external = document.get("external")
        self._own = TokenIssuer.from_keys(str(document["issuer"]), AUDIENCE, [ALGORITHM], document["keys"])
        self._external = external and TokenIssuer.from_keys(
            external["issuer"], external["audience"], external["algorithms"], external["keys"]
        )
        self._fetched_at = self._requested_at


def _build_caller(claims: dict[str, Any]) -> Caller:
    """The caller of verified claims of the shop's own."""
    if (
        claims.get("typ") != "access"
        or claims.get("role") not in (*_ROLE_RANK, "service")
        or not isinstance(claims.get("sub"), str)
    ):
        raise Unauthorized("the token is not an access token")
    actor = claims.get("act")
    return Caller(
        claims["sub"],
        claims["role"],
        str(claims.get("sid", "")),
        str(actor["sub"]) if isinstance(actor, dict) and "sub" in actor else None,
        float(claims["exp"]) + LEEWAY_SECONDS,
    )


def issue_internal_token(secret: str, service: str, target: str) -> str:
    """The header value with which one service shows itself to another."""
    key = OctKey.import_key(secret)
    now = int(time.time())
    return "Bearer " + jwt.encode(
        {"alg": "HS256"}, {"iss": service, "aud": target, "exp": now + _INTERNAL_TOKEN_SECONDS, "typ": "internal"}, key
    )


def verify_internal_token(secret: str, header: str | None, target: str) -> str:
    """The calling service. Raises Unauthorized."""
    if not header or not header.startswith("Bearer "):
        raise Unauthorized("internal operations are for services")
    with reraise_unauthorized("internal operations are for services"):
        claims = jwt.decode(header[7:], OctKey.import_key(secret), algorithms=["HS256"]).claims
        if claims.get("aud") != target or claims.get("typ") != "internal" or not claims.get("exp", 0) >= time.time():
            raise Unauthorized("the service token is not for this service, or has expired")
        return str(claims["iss"])


def _read_bearer_token(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("send the access token as `Authorization: Bearer <token>`")
    return token.strip()


class RoleRequirement(SecurityBase):
    """The FastAPI dependency of a protected route. Its role stands in the route's OpenAPI `security` and is read by the
    test of the whole matrix.
    """

    def __init__(self, role: Role) -> None:
        self.role: Role = role
        self.model = HTTPBearer(
            bearerFormat="JWT",
            description="An access token of `POST /v1/auth/token`; beside it the role that is needed.",
        )
        self.scheme_name = "bearer"

    async def __call__(self, request: Request) -> Caller:
        caller = await get_caller(request)
        if caller is None:
            raise Unauthorized("this needs an access token; get one at POST /v1/auth/token")
        if not (caller.has_role(self.role) or (self.role == "service" and caller.role == "service")):
            raise Forbidden(f"this is for {self.role}; you are {caller.role}")
        return caller


async def get_caller(request: Request) -> Caller | None:
    """The caller, or None for an anonymous request."""
    token = _read_bearer_token(request)
    if token is None:
        return None
    caller: Caller = await request.app.state.verifier.verify(token)
    telemetry.actor.set(caller.audit_name)
    return caller


Customer = Annotated[Caller, Security(RoleRequirement("customer"), scopes=["customer"])]
Staff = Annotated[Caller, Security(RoleRequirement("staff"), scopes=["staff"])]
Admin = Annotated[Caller, Security(RoleRequirement("admin"), scopes=["admin"])]
Anyone = Annotated[Caller | None, Depends(get_caller)]
