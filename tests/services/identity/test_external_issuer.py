"""The keys of an outside issuer, a process of its own, that changes them, answers nonsense, or is gone."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from joserfc.errors import SecurityWarning
from joserfc.jwk import RSAKey

from caravan.errors import ServiceUnavailable
from caravan.runtime import Backends
from services.identity.client import ACCEPT_TOKEN, AcceptTokenRequest
from tests.services.identity.conftest import IdentityClient
from tests.services.identity.outside_issuer import (
    OutsideIssuer,
    person,
    refused,
    run_identity,
    run_issuer,
    start_process,
    who,
)
from tests.support.shop import wait_until


@pytest.fixture(scope="module")
async def identity(backends: Backends, issuer: OutsideIssuer) -> AsyncIterator[IdentityClient]:
    async with run_identity(backends, issuer.url) as running:
        yield running


pytestmark = pytest.mark.usefixtures("restored_issuer")


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that nobody knows is looked for at once, however lately one was."""
    monkeypatch.setattr("services.identity.providers.openid.MIN_REFRESH_SECONDS", 0.0)
    monkeypatch.setattr("caravan.auth._REFETCH_SECONDS", 0.0)
    monkeypatch.setattr("caravan.auth._FIRST_KEYS_SECONDS", 0.0)


@pytest.fixture
def hasty(identity: IdentityClient, no_pauses: None) -> IdentityClient:
    """Whenever keys were looked for last."""
    identity.shop.get_context("identity").resources.provider._next_refresh_at = float("-inf")
    return identity


async def test_a_new_key_is_found_and_an_old_one_ends(hasty: IdentityClient, issuer: OutsideIssuer) -> None:
    for algorithm in ("ES256", "EdDSA", "RS256"):
        old = await issuer.sign(**person())
        await issuer.steer("rotate", algorithm=algorithm)
        await who(hasty, await issuer.sign(**person()))
        await refused(hasty, old, "not known")


async def test_a_key_that_is_kept_beside_the_new_one_goes_on(hasty: IdentityClient, issuer: OutsideIssuer) -> None:
    old = await issuer.sign(**person())
    await issuer.steer("rotate", keep=True)
    await who(hasty, await issuer.sign(**person()))
    await who(hasty, old)
    await issuer.steer("rotate")


async def test_a_storm_of_unknown_keys_asks_the_issuer_once(identity: IdentityClient, issuer: OutsideIssuer) -> None:
    context = identity.shop.get_context("identity")
    context.resources.provider._next_refresh_at = context.verifier._requested_at = float("-inf")
    await issuer.steer("requests")
    tokens = [await issuer.sign({"kid": uuid4().hex}, **person()) for _ in range(20)]
    await asyncio.gather(*(refused(identity, token, "not known") for token in tokens))
    assert (await issuer.steer("requests")).count("/keys") == 1


FAULTS = [
    {"status": 500},
    {"status": 204},
    {"redirect": "http://127.0.0.1:1/keys"},
    {"padding": 300_000},
    {"body": "no json"},
    {"body": "[]"},
    {"body": '{"keys": []}'},
    {"body": '{"keys": [{"kty": "oct", "kid": "k", "k": "AAAA"}]}'},
    {"body": '{"keys": [{"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"}]}'},
    {"body": '{"keys": [1, null, {"kid": 7}, {"kid": "x", "kty": ["RSA"]}, {"kid": "y", "kty": "EC", "crv": {}}]}'},
    {"delay": 4},
]


@pytest.mark.parametrize("path", ["/keys", "/.well-known/openid-configuration"])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_an_issuer_that_answers_nonsense_changes_nothing(
    hasty: IdentityClient, issuer: OutsideIssuer, path: str, fault: dict[str, Any]
) -> None:
    provider = hasty.shop.get_context("identity").resources.provider
    token = await issuer.sign(**person())
    await who(hasty, token)
    known = list(provider.keys)
    await issuer.steer("set", faults={path: fault})
    provider._metadata_until = provider._keys_until = float("-inf")
    await provider.refresh_keys()
    assert provider.keys == known
    assert provider._keys_until == float("-inf"), "they do not count as fetched"
    await who(hasty, await issuer.sign(**person()))


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "http://127.0.0.1:1"},
        {"jwks_uri": None},
        {"jwks_uri": "http://keys.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": 7},
    ],
    ids=str,
)
async def test_a_discovery_document_that_is_not_this_issuers_is_not_followed(
    hasty: IdentityClient, issuer: OutsideIssuer, metadata: dict[str, Any]
) -> None:
    provider = hasty.shop.get_context("identity").resources.provider
    await provider.refresh_keys(uuid4().hex)
    known = list(provider.keys)
    await issuer.steer("set", metadata=metadata)
    await issuer.steer("requests")
    provider._metadata_until = provider._keys_until = float("-inf")
    await provider.refresh_keys()
    assert provider.keys == known
    assert await issuer.steer("requests") == ["/.well-known/openid-configuration"]


async def test_keys_that_are_for_something_else_are_passed_over(hasty: IdentityClient, issuer: OutsideIssuer) -> None:
    right = RSAKey.generate_key(2048, {"kid": "r"}).as_dict(private=False)
    with pytest.warns(SecurityWarning):
        weak = RSAKey.generate_key(1024, {"kid": "weak"}).as_dict(private=False)
    private = RSAKey.generate_key(2048, {"kid": "p", "use": "sig"}).as_dict(private=True)
    published = [
        {**right, "kid": "encrypts", "use": "enc"},
        {**right, "kid": "other", "alg": "RSA-OAEP"},
        {**right, "kid": "signs", "key_ops": ["sign"]},
        {**right, "kid": "beside", "x5c": ["AAAA"], "more": "than that"},
        {"kty": "AKP", "kid": "later", "pub": "AAAA"},
        weak,
        private,
    ]
    await issuer.steer("set", published=published)
    provider = hasty.shop.get_context("identity").resources.provider
    await provider.refresh_keys("beside")
    assert [key["kid"] for key in provider.keys][1:] == ["beside", "p"]
    assert all({"d", "x5c", "more"}.isdisjoint(key) for key in provider.keys)


async def test_the_issuer_may_be_away_for_as_long_as_it_is(backends: Backends, no_pauses: None) -> None:
    """Known keys go on, a start without it works, and it is found when it comes back."""
    async with run_issuer() as issuer:
        async with run_identity(backends, issuer.url) as identity:
            token = await issuer.sign(**(claims := person()))
            user = await who(identity, token)
            other = await issuer.sign(**person())
            port = int(issuer.url.rpartition(":")[2])
            await issuer.stop()
            await who(identity, other)
            assert (await identity.login((await identity.person()).email)).status_code == 200
        async with run_identity(backends, issuer.url) as identity:
            ready = (await identity.client.get("/readyz")).json()
            assert ready["status"] == "ready"
            shop_user = await identity.person()
            assert (await identity.me(shop_user.access)).status_code == 200
            context = identity.shop.get_context("identity")
            for _ in range(30):
                with pytest.raises(ServiceUnavailable):
                    await context.call(ACCEPT_TOKEN, AcceptTokenRequest(token=token))
            assert context.call.get_breaker("identity").allow_call(), "nobody else is kept from identity"
            answer = await identity.me(token)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            metrics = (await identity.client.get("/metrics")).text
            assert "caravan_openid_keys_fetched_timestamp_seconds 0.0" in metrics
            issuer.process, _ = await start_process(port)
            fresh = await issuer.sign(**claims, iat=int(time.time()) + 1)

            async def found() -> bool:
                return (await identity.me(fresh)).status_code == 200

            await wait_until(found)
            assert (await who(identity, fresh))["id"] == user["id"]
