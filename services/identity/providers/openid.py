"""The OpenID Connect issuer outside the shop: its discovery document and its keys, fetched within a deadline and a
size, without redirects, and kept.

An issuer that can't be reached, or answers nonsense, changes nothing: the keys that are known go on. `use_cases` verify
tokens with them, and hand them to the other services.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import httpx2
from joserfc.jwk import JWKRegistry, RSAKey
from pydantic import AfterValidator, BaseModel, ValidationError

from caravan.deadlines import Deadline
from caravan.telemetry import log
from caravan.token_issuers import TokenIssuer
from services.identity.metrics import FETCHES, KEYS_FETCHED_AT
from services.identity.providers.issuer_http import IssuerError, request_json
from services.identity.settings import Settings, check_secure_url

FETCH_SECONDS = 2.5
"""For a refresh as a whole: less than those who ask identity for its keys wait."""
METADATA_SECONDS = 3600.0
KEYS_SECONDS = 300.0
MIN_REFRESH_SECONDS = 10.0
"""Whoever invents key ids doesn't get the shop to storm the issuer."""
MAX_KEYS = 100
MIN_RSA_BITS = 2048
_KEY_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


def _check_endpoint(url: str) -> str:
    check_secure_url(url)
    return url


Endpoint = Annotated[str, AfterValidator(_check_endpoint)]


class ProviderMetadata(BaseModel):
    """What is used of the discovery document (OpenID Connect Discovery 1.0)."""

    issuer: str
    jwks_uri: Endpoint
    authorization_endpoint: Endpoint | None = None
    token_endpoint: Endpoint | None = None
    userinfo_endpoint: Endpoint | None = None
    end_session_endpoint: Endpoint | None = None
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic"]
    authorization_response_iss_parameter_supported: bool = False


class OpenIdProvider:
    def __init__(self, settings: Settings, http: httpx2.AsyncClient, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._http = http
        self._now = now
        self.metadata: ProviderMetadata | None = None
        """As it was read last."""
        self._metadata_until = self._keys_until = self._next_refresh_at = float("-inf")
        self._lock = asyncio.Lock()
        self.keys: list[dict[str, Any]] = []
        """The public keys as they are known, stripped to what a verifier needs."""
        KEYS_FETCHED_AT.set(0)

    def build_issuer(self, audience: str) -> TokenIssuer:
        return TokenIssuer.from_keys(self._settings.oidc_issuer, audience, self._settings.oidc_algorithms, self.keys)

    async def refresh_keys(self, kid: str | None = None) -> None:
        """Fetch the keys when they are old, or for a `kid` that is none of them; at most every few seconds, by one for
        all who wait. Never raises: what is known stays.
        """
        if self._needs_refresh(kid):
            async with self._lock:
                if self._needs_refresh(kid):
                    await self._try_refresh()
                    self._next_refresh_at = self._now() + MIN_REFRESH_SECONDS

    def _needs_refresh(self, kid: str | None) -> bool:
        now = self._now()
        return now >= self._next_refresh_at and (
            now >= self._keys_until if kid is None else all(key["kid"] != kid for key in self.keys)
        )

    async def _try_refresh(self) -> None:
        try:
            async with Deadline(FETCH_SECONDS):
                metadata = await self.read_metadata()
                document = await self._fetch_document("keys", metadata.jwks_uri)
            keys = read_keys(document, self._settings.oidc_algorithms)
        except (IssuerError, TimeoutError) as error:
            self._metadata_until = float("-inf")  # it may say otherwise by now
            log.warning(
                "the outside issuer's keys were not fetched",
                issuer=self._settings.oidc_issuer,
                error=str(error) or f"no answer within {FETCH_SECONDS:g} s",
                known_keys=len(self.keys),
            )
            return
        self.keys = keys
        self._keys_until = self._now() + KEYS_SECONDS
        KEYS_FETCHED_AT.set_to_current_time()

    async def read_metadata(self) -> ProviderMetadata:
        """The discovery document, from memory for an hour. Raises IssuerError."""
        if self.metadata is None or self._now() >= self._metadata_until:
            issuer = self._settings.oidc_issuer
            document = await self._fetch_document("metadata", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            try:
                metadata = ProviderMetadata.model_validate(document)
            except ValidationError as error:
                fault = error.errors(include_url=False, include_input=False)[0]
                field = ".".join(str(part) for part in fault["loc"])
                raise IssuerError(f"its discovery document can't be used: {field}: {fault['msg']}") from None
            if metadata.issuer != issuer:
                raise IssuerError(f"its discovery document is that of {metadata.issuer[:200]}")
            self.metadata, self._metadata_until = metadata, self._now() + METADATA_SECONDS
        return self.metadata

    async def _fetch_document(self, name: str, url: str) -> Mapping[str, Any]:
        try:
            document = await request_json(self._http, "GET", url)
        except BaseException:
            FETCHES.labels(name, "failed").inc()
            raise
        FETCHES.labels(name, "fetched").inc()
        return document


def read_keys(document: Mapping[str, Any], algorithms: tuple[str, ...]) -> list[dict[str, Any]]:
    """The keys of a JWK set that can verify a token of these algorithms, without their other members. Others are passed
    over: an issuer may also publish keys for encryption, or of a later age. Raises IssuerError when there is none.
    """
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise IssuerError(f"its key set is no list of at most {MAX_KEYS} keys")
    keys = [key for entry in entries if (key := _read_key(entry, algorithms)) is not None]
    if not keys:
        raise IssuerError(f"its key set has no key with a kid that can verify {' or '.join(algorithms)}")
    return keys


def _read_key(entry: object, algorithms: tuple[str, ...]) -> dict[str, Any] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str) or entry.get("use", "sig") != "sig":
        return None
    members = _KEY_MEMBERS.get(str(entry.get("kty")))
    if members is None or entry.get("alg", algorithms[0]) not in algorithms:
        return None
    kept = {name: entry[name] for name in ("kty", "kid", "alg", "key_ops", *members) if name in entry}
    try:
        key = JWKRegistry.import_key(kept)
        key.check_key_op("verify")
    except Exception as error:  # the library and those below it raise many kinds for what is no key
        log.warning("a key of the outside issuer can't be read", kid=entry["kid"][:100], error=repr(error))
        return None
    return None if isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS else kept
