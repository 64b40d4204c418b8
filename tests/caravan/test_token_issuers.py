"""What an issuer's token is taken for, and how a verifier tells the shop's own tokens from those of an outside issuer:
with the keys and algorithms of each for its own tokens alone.
"""

import time
from dataclasses import astuple, dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey

from caravan.auth import AUDIENCE, TokenVerifier
from caravan.errors import ServiceUnavailable, Unauthorized
from caravan.fault_attribution import DEPENDENCY
from caravan.token_issuers import TokenIssuer, UnverifiedToken

OWN, OUTSIDE = "https://shop.test", "https://login.test"
OWN_KEY = OKPKey.generate_key("Ed25519", {"kid": "own"})
OUTSIDE_KEY = ECKey.generate_key("P-256", {"kid": "outside"})
NOW = time.time()


@dataclass
class Accepted:
    subject: str = "0190b6a4-0000-7000-8000-000000000001"
    role: Any = "staff"
    session: str = "external:x:1"


def sign(key: Any, algorithm: str, **claims: Any) -> str:
    body = {"iss": OUTSIDE, "aud": "api", "sub": "u", "exp": int(NOW) + 600, **claims}
    return jwt.encode({"alg": algorithm, "kid": key.kid}, body, key, algorithms=[algorithm])


def own_token(**claims: Any) -> str:
    return sign(OWN_KEY, "EdDSA", iss=OWN, aud=AUDIENCE, typ="access", role="customer", **claims)


class Keys:
    """The key sets that identity would answer, and what was asked for."""

    def __init__(self, *outside: Any) -> None:
        self.asked: list[str] = []
        self.accepted: list[str] = []
        self.outside = [key.as_dict(private=False) for key in outside]

    async def fetch(self, kid: str) -> dict[str, Any]:
        self.asked.append(kid)
        external = {"issuer": OUTSIDE, "audience": "api", "algorithms": ["ES256"], "keys": self.outside}
        return {"issuer": OWN, "keys": [OWN_KEY.as_dict(private=False)], "external": external}

    async def accept(self, token: str) -> Accepted:
        self.accepted.append(token)
        return Accepted()

    def build_verifier(self) -> TokenVerifier:
        return TokenVerifier(self.fetch, self.accept)


async def test_each_issuers_token_is_verified_as_its_own() -> None:
    keys = Keys(OUTSIDE_KEY)
    verifier = keys.build_verifier()
    assert (await verifier.verify(own_token())).role == "customer"
    token = sign(OUTSIDE_KEY, "ES256")
    caller = await verifier.verify(token)
    assert (caller.subject, caller.role, caller.session) == astuple(Accepted())
    await verifier.verify(token)
    assert (keys.accepted, keys.asked) == ([token], ["own"]), "asked once, then known"


@pytest.mark.parametrize(
    "token",
    [
        sign(OWN_KEY, "EdDSA", typ="access", role="admin"),
        sign(OUTSIDE_KEY, "ES256", iss=OWN, aud=AUDIENCE, typ="access", role="admin"),
        sign(OUTSIDE_KEY, "ES256", aud=AUDIENCE),
        sign(OUTSIDE_KEY, "ES256", exp=int(NOW) - 60),
        own_token(exp=int(NOW) - 60),
    ],
)
async def test_no_issuer_speaks_for_the_other(token: str) -> None:
    keys = Keys(OUTSIDE_KEY)
    with pytest.raises(Unauthorized):
        await keys.build_verifier().verify(token)
    assert keys.accepted == [], "what isn't verified here is asked of nobody"


async def test_without_the_outside_keys_the_fault_is_not_the_services() -> None:
    verifier = Keys().build_verifier()
    with pytest.raises(ServiceUnavailable) as unavailable:
        await verifier.verify(sign(OUTSIDE_KEY, "ES256"))
    assert unavailable.value.fault == DEPENDENCY, "no breaker opens for a service that lacks them"
    assert (await verifier.verify(own_token())).role == "customer"


async def test_the_outside_keys_that_come_after_the_start_are_soon_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then every token of the issuer is refused with 503."""
    keys = Keys()
    verifier, token = keys.build_verifier(), sign(OUTSIDE_KEY, "ES256")
    await verifier.verify(own_token())
    keys.outside = [OUTSIDE_KEY.as_dict(private=False)]
    now = time.monotonic()
    monkeypatch.setattr("caravan.auth.time.monotonic", lambda: now + 0.5)
    with pytest.raises(ServiceUnavailable):
        await verifier.verify(token)
    assert keys.asked == ["own"], "not asked for by each"
    monkeypatch.setattr("caravan.auth.time.monotonic", lambda: now + 2)
    assert (await verifier.verify(token)).role == "staff"


async def test_whose_an_outside_token_is_is_asked_again_after_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a token may live for a day; who its user is and may do, changes."""
    keys = Keys(OUTSIDE_KEY)
    verifier, token = keys.build_verifier(), sign(OUTSIDE_KEY, "ES256", exp=int(NOW) + 86400)
    await verifier.verify(token)
    monkeypatch.setattr("caravan.auth.time.time", lambda: NOW + 3600)
    await verifier.verify(token)
    assert keys.accepted == [token, token]


@pytest.mark.parametrize("algorithms", [[], ["none"], ["HS256"], ["RS256", "HS256"]])
def test_an_issuer_has_algorithms_whose_verifier_can_not_sign(algorithms: list[str]) -> None:
    with pytest.raises(ValueError, match="algorithms"):
        TokenIssuer.from_keys(OUTSIDE, "api", algorithms, [])


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=3))


@given(st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf"]), VALUES))
def test_whatever_an_issuer_signs_is_for_this_audience_and_time_or_refused(claims: dict[str, Any]) -> None:
    issuer = TokenIssuer.from_keys(OUTSIDE, "api", ["ES256"], [OUTSIDE_KEY.as_dict(private=False)])
    try:
        decoded = issuer.decode_token(UnverifiedToken.parse(sign(OUTSIDE_KEY, "ES256", **claims)), NOW)
    except Unauthorized:
        return
    assert decoded["iss"] == OUTSIDE
    assert decoded["aud"] == "api" or "api" in decoded["aud"]
    assert decoded["exp"] >= NOW - 5
    assert decoded.get("nbf", 0) <= NOW + 5
