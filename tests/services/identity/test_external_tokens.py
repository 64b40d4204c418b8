"""Every way we know to get in with a token that the outside issuer, a process of its own, did not issue for us."""

import base64
import hmac
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest
from joserfc.jwk import RSAKey

from caravan.runtime import Backends
from tests.services.identity.conftest import IdentityClient
from tests.services.identity.outside_issuer import (
    OutsideIssuer,
    person,
    refused,
    run_identity,
    who,
)
from tests.support.openid_provider import CLIENT_ID, generate_key


@pytest.fixture(scope="module")
async def identity(backends: Backends, issuer: OutsideIssuer) -> AsyncIterator[IdentityClient]:
    async with run_identity(backends, issuer.url) as running:
        yield running


def encode(part: bytes | dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(part if isinstance(part, bytes) else orjson.dumps(part)).decode().rstrip("=")


async def test_a_token_that_was_verified_costs_no_call(
    identity: IdentityClient, issuer: OutsideIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await issuer.sign(**person())
    await who(identity, token)
    await issuer.steer("requests")
    verifier = identity.shop.get_context("identity").verifier
    monkeypatch.setattr(verifier, "_accept_token", None)
    monkeypatch.setattr(verifier, "_fetch_keys", None)
    await verifier.verify(token)
    assert await issuer.steer("requests") == []


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "another-shop"}, "not issued for this shop"),
        ({"aud": CLIENT_ID}, "not issued for this shop"),
        ({"aud": None}, "not issued for this shop"),
        ({"aud": []}, "not issued for this shop"),
        ({"aud": "caravan"}, "not issued for this shop"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "expired"),
        ({"exp": "tomorrow"}, "expired"),
        ({"nbf": 2**33}, "not valid yet"),
        ({"iat": None}, "iat"),
        ({"iat": 2**33}, "iat"),
        ({"iat": -1}, "iat"),
        ({"iat": "now"}, "iat"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": "a\x00b"}, "sub"),
        ({"sub": "x" * 256}, "sub"),
        ({"iss": "http://127.0.0.1:1"}, "not accepted"),
        ({"iss": None}, "not accepted"),
        ({"iss": "http://shop.test", "typ": "access", "role": "admin", "aud": "caravan"}, "not accepted"),
    ],
    ids=str,
)
async def test_claims_that_do_not_hold_are_refused_though_well_signed(
    identity: IdentityClient, issuer: OutsideIssuer, claims: dict[str, Any], reason: str
) -> None:
    await refused(identity, await issuer.sign(**person() | claims), reason)


@pytest.mark.parametrize("header", [{"typ": "logout+jwt"}, {"typ": "dpop+jwt"}, {"typ": "secevent+jwt"}], ids=str)
async def test_tokens_of_other_types_open_nothing(
    identity: IdentityClient, issuer: OutsideIssuer, header: dict[str, Any]
) -> None:
    await refused(identity, await issuer.sign(header, **person()), "not an access token")


async def test_no_token_is_made_with_the_public_key_or_without_one(
    identity: IdentityClient, issuer: OutsideIssuer
) -> None:
    _, body, _ = (await issuer.sign(**person())).split(".")
    (key,) = (await issuer.http.get(f"{issuer.url}/keys")).json()["keys"]
    public = RSAKey.import_key(key)
    for algorithm in ("none", "NONE", "HS256", "RS256", "RS384", "PS256", "ES256"):
        for secret in (b"", public.as_pem(private=False), key["n"].encode(), orjson.dumps(key)):
            signed = f"{encode({'alg': algorithm, 'kid': key['kid']})}.{body}"
            signature = encode(hmac.digest(secret, signed.encode(), "sha256")) if secret else ""
            await refused(identity, f"{signed}.{signature}")


async def test_a_foreign_key_under_the_issuers_id_is_refused(identity: IdentityClient, issuer: OutsideIssuer) -> None:
    (key,) = (await issuer.http.get(f"{issuer.url}/keys")).json()["keys"]
    head, body, _ = (await issuer.sign(**person())).split(".")
    foreign = generate_key("EdDSA")
    signature = encode(foreign.private_key.sign(f"{head}.{body}".encode()))  # type: ignore[union-attr, call-arg]
    await refused(identity, f"{head}.{body}.{signature}", "signature")
    jwk = foreign.as_dict(private=False)
    for header in ({"jwk": jwk}, {"jku": "http://attacker.example/keys"}, {"x5c": ["AAAA"]}, {"crit": ["exp"]}):
        head = encode({"alg": "RS256", "kid": key["kid"], **header})
        await refused(identity, f"{head}.{body}.{encode(b'x' * 256)}")


async def test_the_operator_and_the_users_of_the_shop_sign_in_as_before(
    identity: IdentityClient, issuer: OutsideIssuer
) -> None:
    shop_user = await identity.person()
    assert (await identity.me(shop_user.access)).status_code == 200
    admin = await issuer.sign(**person(groups=["shop-admins"]))
    exchanged = await identity.token(
        "urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token=admin,
        subject_token_type="urn:ietf:params:oauth:token-type:access_token",
        requested_subject=shop_user.email,
    )
    assert exchanged.status_code == 200, exchanged.text
    acting = exchanged.json()["access_token"]
    assert (await who(identity, acting))["email"] == shop_user.email
    async with httpx2.AsyncClient() as http:
        assert (await http.get(f"{issuer.url}/keys")).status_code == 200
