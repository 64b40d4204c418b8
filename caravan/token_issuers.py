"""An issuer of tokens as its verifiers know it: its name, audience, algorithms and public keys, and the check that a
token is its own, meant for this audience, and good now.

`caravan/auth.py` chooses the issuer of an access token; identity also checks ID tokens with it. What the claims beyond
these mean is theirs.
"""

import base64
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import orjson
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from caravan.errors import Unauthorized

# RFC 9864 renames the algorithm to Ed25519; the verifiers that clients have today know the old name.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)
PUBLIC_KEY_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
"""Whoever can verify one of these can't sign with it. No issuer's token is taken with any other."""
LEEWAY_SECONDS = 5
_MAX_TOKEN_LENGTH = 8192


@contextmanager
def reraise_unauthorized(reason: str) -> Iterator[None]:
    """Whatever reading a stranger's token raises is a refusal: parsers have more kinds of errors than anybody lists.
    Only for what reads, not for what fetches keys, whose failures are the shop's own.
    """
    try:
        yield
    except Unauthorized:
        raise
    except Exception as error:
        raise Unauthorized(reason) from error


def _parse_part(text: str) -> dict[str, Any]:
    part = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if not isinstance(part, dict):
        raise ValueError("not an object")
    return part


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A token whose header has been read and whose signature has not been verified. Good for choosing the issuer and
    its key, for nothing else.
    """

    text: str
    header: Mapping[str, Any]
    kid: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises Unauthorized for what no issuer's token can be."""
        with reraise_unauthorized("the token is not a JWT"):
            head, _, rest = text.partition(".")
            if rest.count(".") != 1 or len(text) > _MAX_TOKEN_LENGTH:
                raise ValueError("three parts expected")
            header = _parse_part(head)
        kid = header.get("kid")
        if header.get("alg") not in PUBLIC_KEY_ALGORITHMS or not isinstance(kid, str):
            raise Unauthorized("the token's algorithm or key id is not accepted")
        return cls(text, header, kid)

    def read_issuer_name(self) -> object:
        """What the token says; only its signature can prove it."""
        with reraise_unauthorized("the token's claims are not readable"):
            return _parse_part(self.text.split(".")[1]).get("iss")


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    name: str
    audience: str
    algorithms: tuple[str, ...]
    keys: KeySet
    key_ids: frozenset[str]

    @classmethod
    def from_keys(cls, name: str, audience: str, algorithms: Collection[str], keys: list[dict[str, Any]]) -> Self:
        """`keys`: JWKs, each with its `kid`."""
        if not algorithms or not set(algorithms) <= set(PUBLIC_KEY_ALGORITHMS):
            raise ValueError(f"algorithms must be among {', '.join(PUBLIC_KEY_ALGORITHMS)}")
        key_set = KeySet.import_key_set({"keys": keys}) if keys else KeySet([])
        return cls(name, audience, tuple(algorithms), key_set, frozenset(str(key["kid"]) for key in keys))

    def decode_token(self, token: UnverifiedToken, now: float) -> dict[str, Any]:
        """The claims of a token of this issuer. Raises Unauthorized with the reason."""
        if token.header["alg"] not in self.algorithms:
            raise Unauthorized("the token's algorithm or key id is not accepted")
        if token.kid not in self.key_ids:
            raise Unauthorized("the token is signed with a key that is not known")
        with reraise_unauthorized("the token's signature is not valid"):
            # Header fields that nobody knows mean nothing, unless `crit` names them (RFC 7515).
            registry = JWSRegistry(algorithms=self.algorithms, strict_check_header=False)
            claims = dict(jwt.decode(token.text, self.keys, registry=registry).claims)
        with reraise_unauthorized("the token's claims are not readable"):
            self._check_claims(claims, now)
        return claims

    def _check_claims(self, claims: Mapping[str, Any], now: float) -> None:
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, int | float) or not float(expires) + LEEWAY_SECONDS >= now:
            raise Unauthorized("the token has expired; get a new one with the refresh token")
        if not isinstance(begins, int | float) or not begins - LEEWAY_SECONDS <= now:
            raise Unauthorized("the token is not valid yet")
        audience = claims.get("aud")
        if claims.get("iss") != self.name or not (
            audience == self.audience or (isinstance(audience, list) and self.audience in audience)
        ):
            raise Unauthorized("the token was not issued for this shop")
