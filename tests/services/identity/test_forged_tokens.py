"""Every way we know to forge an access token, at a route that needs one."""

import asyncio
import base64
import hmac
import time
from typing import Any
from uuid import uuid4

import orjson
import pytest
from joserfc.jwk import OKPKey

from caravan.auth import TokenVerifier
from caravan.errors import Unauthorized
from services.identity.providers.crypto import export_public_part, generate_key, sign_token
from tests.services.identity.conftest import IdentityClient
from tests.support.shop import URL


def encode(part: bytes | dict[str, Any]) -> str:
    raw = part if isinstance(part, bytes) else orjson.dumps(part)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


async def genuine(identity: IdentityClient, **changes: Any) -> dict[str, Any]:
    """The claims of a person who is signed in, changed."""
    person = await identity.person()
    claims: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(person.access.split(".")[1] + "=="))
    return {name: value for name, value in (claims | changes).items() if value is not None}


def signer(identity: IdentityClient) -> tuple[OKPKey, str]:
    resources = identity.shop.get_context("identity").resources
    kid = resources.keys[-1].kid
    return resources.private_keys[kid], kid


async def refused(identity: IdentityClient, token: str) -> None:
    answer = await identity.me(token)
    assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Bearer"), answer.text
    assert answer.json()["type"].endswith("/unauthorized")


async def test_the_unchanged_claims_are_accepted(identity: IdentityClient) -> None:
    claims = await genuine(identity)
    assert (await identity.me(sign_token(claims, *signer(identity)))).status_code == 200


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, ["EdDSA"], "HS256", "RS256"])
async def test_no_other_algorithm_is_accepted(identity: IdentityClient, algorithm: Any) -> None:
    claims, (_, kid) = await genuine(identity), signer(identity)
    header = {"alg": algorithm, "kid": kid} if algorithm is not None else {"kid": kid}
    for signature in ("", "AAAA"):
        await refused(identity, f"{encode(header)}.{encode(claims)}.{signature}")


async def test_a_mac_with_our_public_key_is_refused(identity: IdentityClient) -> None:
    claims, (key, kid) = await genuine(identity), signer(identity)
    public = export_public_part(key)
    for secret in (
        base64.urlsafe_b64decode(public["x"] + "="),
        public["x"].encode(),
        orjson.dumps(public),
        key.as_pem(private=False),
    ):
        for algorithm in ("HS256", "EdDSA"):
            signed = f"{encode({'alg': algorithm, 'kid': kid})}.{encode(claims)}"
            await refused(identity, f"{signed}.{encode(hmac.digest(secret, signed.encode(), 'sha256'))}")


async def test_a_key_that_the_token_brings_along_is_not_used(identity: IdentityClient) -> None:
    claims, own = await genuine(identity), generate_key("mine")
    (_, kid) = signer(identity)
    await refused(identity, sign_token(claims, own, kid))
    for header in (
        {"jwk": export_public_part(own), "kid": kid},
        {"jku": "http://attacker.example/keys", "kid": "mine"},
        {"x5u": "http://attacker.example/cert", "kid": "mine"},
        {"kid": "../../../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"kid": ""},
        {"kid": 7},
        {"kid": None},
        {"kid": kid, "crit": ["exp"], "b64": False},
        {"kid": kid, "crit": 1},
        {"kid": kid, "crit": None},
        {"kid": kid, "crit": [1]},
        {"kid": kid, "b64": 0, "crit": {}},
    ):
        signed = f"{encode({'alg': 'EdDSA', **header})}.{encode(claims)}"
        raw = own.private_key.sign(signed.encode())  # type: ignore[union-attr]
        await refused(identity, f"{signed}.{encode(raw)}")


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "http://attacker.example"},
        {"iss": None},
        {"aud": "another-shop"},
        {"aud": None},
        {"aud": []},
        {"typ": "refresh"},
        {"typ": "internal"},
        {"typ": None},
        {"exp": 1},
        {"exp": None},
        {"exp": "tomorrow"},
        {"nbf": 2**33},
        {"role": "root"},
        {"role": None},
        {"sub": None},
        {"sub": "7d4b569a-9280-4ac2-80ad-925b6a9a9d88"},
        {"sid": "83682967-2e6e-4165-805f-f347672d7b56"},
        {"sid": None},
        {"sid": "client:cli"},
    ],
    ids=str,
)
async def test_claims_that_do_not_hold_are_refused_though_well_signed(
    identity: IdentityClient, change: dict[str, Any]
) -> None:
    claims = await genuine(identity, **change)
    if change == {"sid": "client:cli"}:
        claims["sub"] = "orders"
    await refused(identity, sign_token(claims, *signer(identity)))


async def test_expiry_has_a_little_leeway_for_clocks_and_no_more(identity: IdentityClient) -> None:
    now = int(time.time())
    assert (await identity.me(sign_token(await genuine(identity, exp=now - 2), *signer(identity)))).status_code == 200
    await refused(identity, sign_token(await genuine(identity, exp=now - 10), *signer(identity)))


async def test_a_refresh_token_and_broken_tokens_are_no_access_tokens(identity: IdentityClient) -> None:
    person = await identity.person()
    head, body, signature = person.access.split(".")
    flipped = signature[:-2] + ("A" if signature[-2] != "A" else "B") + signature[-1]
    for token in (
        person.refresh,
        "x",
        "..",
        "a.b",
        f"{head}.{body}",
        f"{head}.{body}.",
        f"{head}.{body}.{flipped}",
        f"{head}.{encode(b'[]')}.{signature}",
        f"{encode(b'[]')}.{body}.{signature}",
        f"{head}.{body}.{signature}.{signature}",
        "a" * 9000,
    ):
        await refused(identity, token)
    for header in ("Basic YTpi", "Bearer", "Bearer ", person.access):
        assert (await identity.client.get("/v1/users/me", headers={"authorization": header})).status_code == 401
    assert (await identity.client.get("/v1/users/me")).status_code == 401


async def test_a_storm_of_unknown_key_ids_asks_the_issuer_once_at_most(identity: IdentityClient) -> None:
    asked = 0

    async def fetch(_: str) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return {"issuer": URL, "keys": (await identity.client.get("/.well-known/jwks.json")).json()["keys"]}

    verifier, claims = TokenVerifier(fetch), await genuine(identity)
    key, _ = signer(identity)
    answers = await asyncio.gather(
        *(verifier.verify(sign_token(claims, key, uuid4().hex)) for _ in range(50)), return_exceptions=True
    )
    assert all(isinstance(answer, Unauthorized) for answer in answers)
    assert asked == 1
    assert (await verifier.verify(sign_token(claims, *signer(identity)))).subject == claims["sub"]
