"""Whatever a stranger writes into a token is refused: no error of a parser gets past the two functions that read
them.
"""

import asyncio
import base64
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc.jwk import OKPKey

from caravan.auth import TokenVerifier, verify_internal_token
from caravan.errors import Unauthorized

SECRET = "a secret of thirty-two characters at least"
KEY = OKPKey.generate_key("Ed25519", {"kid": "k1"})
VERIFIER_KEYS = {"issuer": "http://shop", "keys": [{**KEY.as_dict(private=False), "kid": "k1"}]}

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
headers = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "cty", "crit", "b64", "jwk", "jku", "x5c", "zip", "enc", "p2c", "exp"]),
    values,
)
parts = st.binary(max_size=60) | values.map(orjson.dumps)


def _encode(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


async def _keys(_: str) -> dict[str, Any]:
    return VERIFIER_KEYS


@example({"crit": 1}, b"{}", b"", True)
@example({"crit": None}, b"{}", b"", True)
@example({"crit": True}, b"{}", b"", True)
@example({"crit": [1]}, b"{}", b"", True)
@given(headers, parts, st.binary(max_size=70), st.booleans())
def test_a_token_of_any_header_and_claims_is_refused(
    header: dict[str, Any], claims: bytes, signature: bytes, named: bool
) -> None:
    """With the right algorithm and key id in half of the cases, so that they get as far as the library."""
    for right in ({"alg": "EdDSA", "kid": "k1"}, {"alg": "HS256"}):
        head = orjson.dumps({**header, **right} if named else header)
        token = f"{_encode(head)}.{_encode(claims)}.{_encode(signature)}"
        with pytest.raises(Unauthorized):
            asyncio.run(TokenVerifier(_keys).verify(token))
        with pytest.raises(Unauthorized):
            verify_internal_token(SECRET, f"Bearer {token}", "orders")


@given(st.text(max_size=200))
def test_a_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(Unauthorized):
        asyncio.run(TokenVerifier(_keys).verify(text))
    with pytest.raises(Unauthorized):
        verify_internal_token(SECRET, f"Bearer {text}", "orders")


@pytest.mark.parametrize(
    "claims",
    [
        b'{"exp":1e400}',
        b'{"exp":NaN}',
        b'{"exp":"never"}',
        b'{"exp":[]}',
        b'{"exp":' + b"9" * 400 + b"}",
        b"[]",
        b"1",
        b'"x"',
    ],
)
def test_claims_that_are_no_times_are_refused_though_well_signed(claims: bytes) -> None:
    """A key of ours signed them, so the library hands them over as they are."""
    signed = f"{_encode(orjson.dumps({'alg': 'EdDSA', 'kid': 'k1'}))}.{_encode(claims)}"
    token = f"{signed}.{_encode(KEY.private_key.sign(signed.encode()))}"  # type: ignore[union-attr]
    with pytest.raises(Unauthorized):
        asyncio.run(TokenVerifier(_keys).verify(token))
