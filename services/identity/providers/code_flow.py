"""The authorization code flow with PKCE at the outside issuer (OpenID Connect Core 3.1, RFC 7636): where the browser is
sent, and what the code that it comes back with is exchanged for.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx2

from caravan.deadlines import Deadline
from caravan.errors import Unauthorized
from caravan.telemetry import log
from caravan.token_issuers import UnverifiedToken
from services.identity.providers.issuer_http import IssuerError, request_json
from services.identity.providers.openid import OpenIdProvider
from services.identity.settings import Settings

EXCHANGE_SECONDS = 5.0
"""For the token endpoint, and for the user's claims where they are asked for."""


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """What the shop keeps of a sign-in that is under way: in the browser alone, sealed."""

    state: str
    nonce: str
    verifier: str
    return_to: str


@dataclass(frozen=True, slots=True)
class IssuedIdentity:
    """Verified claims of the user, and the ID token that they are of."""

    claims: Mapping[str, Any]
    id_token: str


class CodeFlow:
    def __init__(self, settings: Settings, provider: OpenIdProvider, http: httpx2.AsyncClient, callback: str) -> None:
        self._settings = settings
        self._provider = provider
        self._http = http
        self._callback = callback

    async def build_authorization_url(self, pending: PendingSignIn) -> str:
        """Raises IssuerError, TimeoutError."""
        async with Deadline(EXCHANGE_SECONDS):
            metadata = await self._provider.read_metadata()
        if metadata.authorization_endpoint is None:
            raise IssuerError("its discovery document has no authorization_endpoint")
        challenge = base64.urlsafe_b64encode(hashlib.sha256(pending.verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": self._callback,
            "scope": self._settings.oidc_scopes,
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return _add_query(metadata.authorization_endpoint, query)

    def is_answer_of_issuer(self, issuer: str) -> bool:
        """Whether an answer comes from the issuer that was asked, as far as it says so (RFC 9207)."""
        metadata = self._provider.metadata
        may_be_silent = metadata is None or not metadata.authorization_response_iss_parameter_supported
        return issuer == self._settings.oidc_issuer or (not issuer and may_be_silent)

    async def redeem_code(self, code: str, pending: PendingSignIn, now: float) -> IssuedIdentity:
        """Raises IssuerError, TimeoutError; Unauthorized for an ID token that is not good."""
        async with Deadline(EXCHANGE_SECONDS):
            tokens = await self._exchange_code(code, pending.verifier)
            id_token = tokens.get("id_token")
            if not isinstance(id_token, str):
                raise IssuerError("it answered without an ID token")
            token = UnverifiedToken.parse(id_token)
            await self._provider.refresh_keys(token.kid)
            claims = self._provider.build_issuer(self._settings.oidc_client_id).decode_token(token, now)
            self._check_id_token(claims, pending.nonce)
            more = await self._fetch_missing_claims(claims, tokens.get("access_token"))
        return IssuedIdentity({**more, **claims}, id_token)

    def build_end_session_url(self, id_token: str, return_to: str) -> str:
        """Where the browser signs out at the issuer, too (RP-initiated logout); empty where it offers no such thing."""
        metadata = self._provider.metadata
        if metadata is None or metadata.end_session_endpoint is None:
            return ""
        query = {
            "id_token_hint": id_token,
            "client_id": self._settings.oidc_client_id,
            "post_logout_redirect_uri": return_to,
        }
        return _add_query(metadata.end_session_endpoint, query)

    async def _exchange_code(self, code: str, verifier: str) -> dict[str, Any]:
        metadata, client_id = await self._provider.read_metadata(), self._settings.oidc_client_id
        if metadata.token_endpoint is None:
            raise IssuerError("its discovery document has no token_endpoint")
        assert self._settings.oidc_client_secret is not None
        secret = self._settings.oidc_client_secret.get_secret_value()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._callback,
            "code_verifier": verifier,
        }
        authorization = None
        methods = metadata.token_endpoint_auth_methods_supported
        if "client_secret_basic" in methods:
            credentials = f"{quote_plus(client_id)}:{quote_plus(secret)}"  # each form-encoded first (RFC 6749 §2.3.1)
            authorization = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        elif "client_secret_post" in methods:
            form |= {"client_id": client_id, "client_secret": secret}
        else:
            raise IssuerError("its token endpoint takes no client secret")
        return await request_json(self._http, "POST", metadata.token_endpoint, form=form, authorization=authorization)

    def _check_id_token(self, claims: Mapping[str, Any], nonce: str) -> None:
        """What makes it the answer to this sign-in, beyond what every token is checked for."""
        client_id, party = self._settings.oidc_client_id, claims.get("azp")
        is_for_several = isinstance(claims.get("aud"), list) and len(claims["aud"]) > 1
        if party != client_id and (party is not None or is_for_several):
            raise Unauthorized("the ID token was issued to another client")
        given = claims.get("nonce")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            raise Unauthorized("the ID token is not the answer to this sign-in")

    async def _fetch_missing_claims(self, claims: Mapping[str, Any], access_token: object) -> dict[str, Any]:
        """From the userinfo endpoint, where the ID token is short: without the e-mail address, or without the groups
        that give the role.
        """
        needed = ["email", *([self._settings.oidc_groups_claim] if self._settings.oidc_roles else [])]
        metadata = await self._provider.read_metadata()
        if all(name in claims for name in needed) or metadata.userinfo_endpoint is None:
            return {}
        try:
            found = await request_json(
                self._http, "GET", metadata.userinfo_endpoint, authorization=f"Bearer {access_token}"
            )
        except IssuerError as error:
            log.warning("the outside issuer says no more of a user", error=str(error))
            return {}
        if found.get("sub") != claims.get("sub"):
            raise Unauthorized("the issuer's userinfo is that of somebody else")
        return found


def _add_query(endpoint: str, query: Mapping[str, str]) -> str:
    """An endpoint may have a query of its own."""
    return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}"
