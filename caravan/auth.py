"""Verifies access tokens, in the gateway and again in each service, with the issuer's published keys.

One rule for keys and algorithms: EdDSA only, the key chosen by `kid` among those the issuer publishes; whatever else a
token's header says is ignored.
"""

import asyncio
import base64
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import Depends, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet, OctKey

from caravan import telemetry
from caravan.errors import DeadlineExceeded, Forbidden, ServiceUnavailable, Unauthorized
from caravan.fifo_cache import FifoCache

Role = Literal["customer", "staff", "admin", "service"]
_ROLE_RANK: dict[str, int] = {"customer": 1, "staff": 2, "admin": 3}
"""Each role may do what the ones before it may; `service` stands apart."""

_ALGORITHMS = ["EdDSA"]
# RFC 9864 renames the algorithm to Ed25519; the verifiers that clients have today know the old name.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)
AUDIENCE = "caravan"
_LEEWAY_SECONDS = 5
_REFETCH_SECONDS = 5.0
_KEY_LIFETIME_SECONDS = 300.0
_MAX_CACHED_TOKENS = 20_000
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


class TokenVerifier:
    """Checks access tokens. `fetch_keys` returns the issuer's JWK set with its name: `{"issuer": ..., "keys": [...]}`;
    it is asked again for an unknown `kid`, at most every few seconds.
    """

    def __init__(self, fetch_keys: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._issuer = ""
        self._fetch_keys = fetch_keys
        self._keys: KeySet | None = None
        self._key_ids: set[str] = set()
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
        claims = await self._decode_claims(token)
        with _reraise_unauthorized("the token's claims are not readable"):
            caller, expires_at = _build_caller(claims, self._issuer, now)
        self._cache[token] = (caller, expires_at)
        return caller

    async def _decode_claims(self, token: str) -> dict[str, Any]:
        with _reraise_unauthorized("the token is not a JWT"):
            header = _parse_header(token)
        kid = header.get("kid")
        if header.get("alg") not in _ALGORITHMS or not isinstance(kid, str):
            raise Unauthorized("the token's algorithm or key id is not accepted")
        keys = await self._get_keys(kid)
        with _reraise_unauthorized("the token's signature is not valid"):
            return dict(jwt.decode(token, keys, algorithms=_ALGORITHMS).claims)

    async def _get_keys(self, kid: str) -> KeySet:
        if self._is_outdated(kid):
            async with self._fetch_lock:  # one asks for all that wait
                if self._is_outdated(kid):
                    await self._refresh_keys()
        if self._keys is None or kid not in self._key_ids:
            raise Unauthorized("the token is signed with a key that is not known")
        return self._keys

    def _is_outdated(self, kid: str) -> bool:
        now = time.monotonic()
        if self._keys is None:
            return True
        return now - self._requested_at > _REFETCH_SECONDS and (
            kid not in self._key_ids or now - self._fetched_at > _KEY_LIFETIME_SECONDS
        )

    async def _refresh_keys(self) -> None:
        self._requested_at = time.monotonic()
        try:
            document = await self._fetch_keys()
        except (ServiceUnavailable, DeadlineExceeded):
            if self._keys is None:
                raise
            return
        self._keys = KeySet.import_key_set({"keys": document["keys"]})
        self._issuer = str(document["issuer"])
        self._key_ids = {str(key["kid"]) for key in document["keys"]}
        self._fetched_at = self._requested_at


@contextmanager
def _reraise_unauthorized(reason: str) -> Iterator[None]:
    """Whatever reading a stranger's token raises is a refusal: parsers have more kinds of errors than anybody lists.
    Only for what reads, not for what fetches keys, whose failures are the shop's own.
    """
    try:
        yield
    except Unauthorized:
        raise
    except Exception as error:
        raise Unauthorized(reason) from error


def _parse_header(token: str) -> dict[str, Any]:
    head, _, rest = token.partition(".")
    if rest.count(".") != 1 or len(token) > 8192:
        raise ValueError("three parts expected")
    header = orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    return header


def _build_caller(claims: dict[str, Any], issuer: str, now: float) -> tuple[Caller, float]:
    """The caller of verified claims, and when the token expires."""
    expires, begins = claims.get("exp"), claims.get("nbf", 0)
    if not isinstance(expires, int | float) or not expires + _LEEWAY_SECONDS >= now:
        raise Unauthorized("the token has expired; get a new one with the refresh token")
    if not isinstance(begins, int | float) or not begins - _LEEWAY_SECONDS <= now:
        raise Unauthorized("the token is not valid yet")
    audience = claims.get("aud")
    if claims.get("iss") != issuer or not (
        audience == AUDIENCE or (isinstance(audience, list) and AUDIENCE in audience)
    ):
        raise Unauthorized("the token was not issued for this shop")
    if (
        claims.get("typ") != "access"
        or claims.get("role") not in (*_ROLE_RANK, "service")
        or not isinstance(claims.get("sub"), str)
    ):
        raise Unauthorized("the token is not an access token")
    actor = claims.get("act")
    return (
        Caller(
            claims["sub"],
            claims["role"],
            str(claims.get("sid", "")),
            str(actor["sub"]) if isinstance(actor, dict) and "sub" in actor else None,
            float(expires) + _LEEWAY_SECONDS,
        ),
        float(expires) + _LEEWAY_SECONDS,
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
    with _reraise_unauthorized("internal operations are for services"):
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
