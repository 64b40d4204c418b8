"""The token endpoint (OAuth 2.0), revocation and the public keys."""

import base64
import binascii
from typing import Annotated, Any
from urllib.parse import unquote_plus

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from caravan.errors import BadRequest, InvalidRequest
from caravan.http import Injected, document_headers, make_json_response
from services.identity import schemas
from services.identity.api.context import find_network
from services.identity.client import KeySetRequest
from services.identity.model import Device
from services.identity.use_cases import external_sign_in, keys, sessions, token_grants
from services.identity.use_cases.keys import IdentityContext
from services.identity.use_cases.login_attempts import derive_device_key

NO_STORE_HEADERS = {"Cache-Control": "no-store", "Pragma": "no-cache"}
DEVICE_COOKIE = "caravan-device"
DEVICE_DAYS = 365
KEYS_CACHE_CONTROL = "public, max-age=300"
router = APIRouter(tags=["auth"])


def _declare_field(max_length: int, description: str, *examples: str) -> Any:
    return Form(max_length=max_length, pattern=r"^[^\x00]*$", description=description, examples=list(examples))


@router.post("/v1/auth/token", response_model=schemas.Tokens, responses=document_headers(200, "Set-Cookie"))
async def issue_tokens(
    request: Request,
    context: Injected[IdentityContext],
    grant_type: Annotated[
        str,
        _declare_field(
            100, f"`password`, `refresh_token`, `client_credentials` or `{token_grants.TOKEN_EXCHANGE}`", "password"
        ),
    ] = "",
    username: Annotated[str, _declare_field(254, "password: the e-mail address", "ada@example.com")] = "",
    password: Annotated[str, _declare_field(128, "password: the password", "a long walk in Palmyra")] = "",
    refresh_token: Annotated[str, _declare_field(200, "refresh_token: the token; it is used up")] = "",
    client_id: Annotated[str, _declare_field(100, "client_credentials: the client; HTTP Basic does as well")] = "",
    client_secret: Annotated[str, _declare_field(200, "client_credentials: its secret")] = "",
    subject_token: Annotated[str, _declare_field(8192, "token exchange: an admin's access token")] = "",
    subject_token_type: Annotated[str, _declare_field(100, f"token exchange: `{token_grants.ACCESS_TOKEN_TYPE}`")] = "",
    requested_subject: Annotated[
        str, _declare_field(254, "token exchange: the customer to act for, by id or e-mail", "ada@example.com")
    ] = "",
) -> Response:
    """Get tokens (OAuth 2.0, form-encoded). A refusal has `error` and `error_description` (RFC 6749) in its problem
    document.

    Each refresh token is for one use; using one twice, also at the same moment, ends the session and mails its owner.
    Attempts with wrong passwords are slowed down (429, `Retry-After`). The cookie of a login makes the device known:
    others' failed attempts don't delay it.
    """
    form = {
        "grant_type": grant_type,
        "username": username,
        "password": password,
        "refresh_token": refresh_token,
        "client_id": client_id,
        "client_secret": client_secret,
        "subject_token": subject_token,
        "subject_token_type": subject_token_type,
        "requested_subject": requested_subject,
        **_read_basic_credentials(request),
    }
    device = Device.decode(request.cookies.get(DEVICE_COOKIE, ""), derive_device_key(context))
    grant = await token_grants.grant_tokens(
        context, form, token_grants.RequestOrigin(find_network(request, context), device)
    )
    response = make_json_response(grant.tokens.model_dump_json(exclude_none=True).encode(), headers=NO_STORE_HEADERS)
    if grant.device:
        secure = context.url.startswith("https:")
        response.set_cookie(
            DEVICE_COOKIE,
            grant.device,
            DEVICE_DAYS * 86400,
            path="/v1/auth",
            secure=secure,
            httponly=True,
            samesite="lax",
        )
    return response


def _read_basic_credentials(request: Request) -> dict[str, str]:
    """Client id and secret from HTTP Basic (RFC 6749 §2.3.1)."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return {}
    try:
        client, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise BadRequest("the Authorization header is not HTTP Basic", error="invalid_request") from None
    return {"client_id": unquote_plus(client), "client_secret": unquote_plus(secret)}


@router.post(
    "/v1/auth/revoke",
    responses={200: {"description": "The session of that token has ended, or the token was none"}},
    response_model=schemas.SignedOut,
    openapi_extra={"requestBody": schemas.REVOCATION},
)
async def revoke_token(request: Request, context: Injected[IdentityContext]) -> Response:
    """Sign out: end the session of a refresh token (RFC 7009; JSON or form-encoded). Unknown tokens are answered
    alike.
    """
    id_token = await sessions.revoke_session(context, await _read_token(request))
    signed_out = schemas.SignedOut(end_session_url=external_sign_in.build_end_session_url(context, id_token) or None)
    return make_json_response(signed_out.model_dump_json(exclude_none=True).encode(), headers=NO_STORE_HEADERS)


async def _read_token(request: Request) -> str:
    if request.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded"):
        token = (await request.form()).get("token")
    else:
        try:
            body = await request.json()
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not valid JSON: {getattr(error, 'msg', 'it can not be read')}") from None
        token = body.get("token") if isinstance(body, dict) else None
    if not isinstance(token, str) or not 1 <= len(token) <= 200:
        raise InvalidRequest(
            "not valid: token",
            errors=[{"field": "token", "rule": "a refresh token is a string of 1 to 200 characters"}],
        )
    return token


@router.get("/.well-known/jwks.json", response_model=schemas.Jwks)
async def get_key_set(context: Injected[IdentityContext]) -> Response:
    """The public keys of the tokens. Cache them, and look again for a `kid` that you don't know."""
    key_set = await keys.get_key_set(context, KeySetRequest())
    return make_json_response(schemas.Jwks(keys=key_set.keys), headers={"Cache-Control": KEYS_CACHE_CONTROL})


@router.get("/.well-known/openid-configuration", response_model=schemas.Discovery)
async def get_discovery_document(context: Injected[IdentityContext]) -> Response:
    """Where this issuer's endpoints are."""
    url = context.url
    document = schemas.Discovery(
        issuer=url,
        token_endpoint=f"{url}/v1/auth/token",
        revocation_endpoint=f"{url}/v1/auth/revoke",
        jwks_uri=f"{url}/.well-known/jwks.json",
        userinfo_endpoint=f"{url}/v1/users/me",
        response_types_supported=[],
        subject_types_supported=["public"],
        grant_types_supported=list(token_grants.GRANTS),
        id_token_signing_alg_values_supported=["EdDSA"],
        token_endpoint_auth_methods_supported=["client_secret_post", "client_secret_basic"],
        revocation_endpoint_auth_methods_supported=["none"],
    )
    return make_json_response(document, headers={"Cache-Control": KEYS_CACHE_CONTROL})
