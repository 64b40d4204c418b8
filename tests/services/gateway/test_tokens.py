"""Tokens at the gateway: forged ones end here, and those of an ended session soon after."""

import base64
import hmac
import time
from collections.abc import AsyncIterator, Callable

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from fastapi import APIRouter
from joserfc.jwk import OKPKey

from caravan.auth import Caller, Customer
from caravan.errors import ServiceUnavailable, Unauthorized
from caravan.runtime import Backends
from caravan.service import Service
from services.gateway.sessions import SessionCache
from services.identity.client import SessionState
from tests.support.shop import Issuer, Shop, run_services

router = APIRouter()


@router.get("/v1/open")
async def open_to_anyone() -> str:
    return "anyone"


@router.get("/v1/mine")
async def only_for_customers(caller: Customer) -> str:
    return caller.subject


@router.post("/v1/auth/token")
async def token_endpoint() -> str:
    return "tokens"


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    async with run_services(backends, "gateway", extra_services=(Service("doors", routers=(router,)),)) as made:
        yield made


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _unsigned(issuer: Issuer, header: dict[str, str]) -> str:
    return f"{_part(orjson.dumps(header))}.{issuer.issue_token('admin').split('.')[1]}."


def _signed_with_the_public_key(issuer: Issuer) -> str:
    """By hand: the library refuses to."""
    public = issuer.key.public_key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = f"{_part(orjson.dumps({'alg': 'HS256', 'kid': 'test'}))}.{issuer.issue_token('admin').split('.')[1]}"
    return f"{signed}.{_part(hmac.digest(public, signed.encode(), 'sha256'))}"


FORGED: dict[str, Callable[[Issuer], str]] = {
    "no token at all": lambda issuer: "x",
    "alg none": lambda issuer: _unsigned(issuer, {"alg": "none", "kid": "test"}),
    "EdDSA without a signature": lambda issuer: _unsigned(issuer, {"alg": "EdDSA", "kid": "test"}),
    "HS256 with the public key": _signed_with_the_public_key,
    "another key of the same id": lambda _: Issuer(OKPKey.generate_key("Ed25519", {"kid": "test"})).issue_token(),
    "expired": lambda issuer: issuer.issue_token(exp=int(time.time()) - 60),
    "another audience": lambda issuer: issuer.issue_token(aud="elsewhere"),
    "another issuer": lambda issuer: issuer.issue_token(iss="https://evil.example"),
    "a refresh token": lambda issuer: issuer.issue_token(typ="refresh"),
    "a role that does not exist": lambda issuer: issuer.issue_token("root"),
}


@pytest.mark.parametrize("kind", FORGED)
async def test_a_token_that_is_not_ours_ends_at_the_gateway_even_where_none_is_needed(shop: Shop, kind: str) -> None:
    headers = {"authorization": f"Bearer {FORGED[kind](shop.issuer)}"}
    for path in ("/v1/open", "/v1/mine"):
        answer = await shop.client.get(path, headers=headers)
        assert answer.status_code == 401, kind
        assert answer.headers["content-type"] == "application/problem+json"
        assert "bearer" in answer.headers["www-authenticate"].lower()


async def test_a_good_token_passes_and_without_one_the_service_decides(shop: Shop) -> None:
    assert (await shop.client.get("/v1/mine", headers=shop.issue_headers())).status_code == 200
    assert (await shop.client.get("/v1/open")).status_code == 200
    assert (await shop.client.get("/v1/mine")).status_code == 401


async def test_a_client_secret_is_taken_by_the_token_endpoint_only(shop: Shop) -> None:
    headers = {"authorization": "Basic " + base64.b64encode(b"cli:secret").decode()}
    assert (await shop.client.post("/v1/auth/token", headers=headers)).status_code == 200
    assert (await shop.client.get("/v1/open", headers=headers)).status_code == 401


@pytest.mark.parametrize("name", ["authorization", "idempotency-key", "content-type"])
async def test_of_two_headers_where_one_counts_none_is_taken(shop: Shop, name: str) -> None:
    value = f"Bearer {shop.issuer.issue_token()}" if name == "authorization" else "application/json"
    answer = await shop.client.get("/v1/mine", headers=[(name, value), (name, value)])
    assert answer.status_code == 400
    assert name in answer.json()["detail"]


class Identity:
    def __init__(self) -> None:
        self.active, self.is_unavailable, self.asked = True, False, 0

    async def __call__(self, *_: object) -> SessionState:
        self.asked += 1
        if self.is_unavailable:
            raise ServiceUnavailable("identity is away")
        return SessionState(active=self.active)


CALLER = Caller("u", "customer", "s")


async def test_an_ended_session_is_noticed_within_its_seconds_and_asked_for_once_in_them() -> None:
    identity, now = Identity(), [0.0]
    sessions = SessionCache(identity, 10.0, lambda: now[0])  # type: ignore[arg-type]
    for now[0] in (0.0, 5.0, 9.9):
        await sessions.require_open(CALLER)
    assert identity.asked == 1
    identity.active, now[0] = False, 10.0
    with pytest.raises(Unauthorized):
        await sessions.require_open(CALLER)


async def test_while_identity_is_away_an_ended_session_stays_ended_and_an_unknown_one_counts_as_open() -> None:
    identity, now = Identity(), [0.0]
    identity.active = False
    sessions = SessionCache(identity, 10.0, lambda: now[0])  # type: ignore[arg-type]
    with pytest.raises(Unauthorized):
        await sessions.require_open(CALLER)
    identity.is_unavailable, now[0] = True, 100.0
    with pytest.raises(Unauthorized):
        await sessions.require_open(CALLER)
    await sessions.require_open(Caller("other", "customer", "t"))
    identity.is_unavailable, identity.active, now[0] = False, False, 102.0
    with pytest.raises(Unauthorized):
        await sessions.require_open(Caller("other", "customer", "t"))
