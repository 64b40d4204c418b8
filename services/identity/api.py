"""The HTTP door of identity: users, and the token endpoint with what belongs to it."""

import base64
import binascii
import dataclasses
import hmac
from functools import partial
from typing import Annotated, Any
from urllib.parse import unquote_plus
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import Response

from caravan.auth import Admin, Anyone, Customer
from caravan.database import UnitOfWork
from caravan.derivation import derive_secret
from caravan.email_address import EmailAddress
from caravan.errors import BadRequest, InvalidRequest
from caravan.http import (
    CursorParameter,
    IfMatch,
    Limit,
    check_if_match,
    decode_cursor,
    document_headers,
    format_entity_tag,
    make_json_response,
    make_page_response,
)
from caravan.idempotency import IdempotentRequest, OptionalIdempotency
from caravan.schemas import Page
from services.identity import schemas
from services.identity.client import KeySetRequest
from services.identity.model import Account, Device, find_client_network
from services.identity.store import accounts as store
from services.identity.use_cases import (
    accounts,
    email_verification,
    keys,
    passwords,
    registration,
    sessions,
    token_grants,
)
from services.identity.use_cases.keys import IdentityContext
from services.identity.use_cases.login_attempts import derive_device_key

NO_STORE_HEADERS = {"Cache-Control": "no-store", "Pragma": "no-cache"}
DEVICE_COOKIE = "caravan-device"
DEVICE_DAYS = 365
KEYS_CACHE_CONTROL = "public, max-age=300"
_ETAG_HEADERS = document_headers(200, "ETag")


def _get_context(request: Request) -> IdentityContext:
    context: IdentityContext = request.app.state.context
    return context


def _find_network(request: Request) -> str:
    peer = request.client.host if request.client else None
    return find_client_network(
        peer, request.headers.get("x-forwarded-for", ""), _get_context(request).settings.gateway_networks
    )


async def _require_open_session(request: Request, caller: Anyone) -> None:
    """Here a token ends with its session at once; elsewhere within the seconds for which the session's state is
    cached.
    """
    if caller is not None:
        await sessions.require_open_session(_get_context(request), caller)


users = APIRouter(prefix="/v1/users", tags=["users"], dependencies=[Depends(_require_open_session)])
auth = APIRouter(tags=["auth"])


def _build_user(account: Account) -> schemas.User:
    return schemas.User(
        **{name: getattr(account, name) for name in schemas.User.model_fields if name != "invited"},
        invited=account.password is None,
    )


def _build_user_response(account: Account) -> Response:
    return make_json_response(_build_user(account), headers={"ETag": format_entity_tag(account.version)})


def _store_created_response(idempotent_request: IdempotentRequest, uow: UnitOfWork, account: Account) -> Response:
    headers = {"Location": f"/v1/users/{account.id}", "ETag": format_entity_tag(account.version)}
    return idempotent_request.store(uow, 201, _build_user(account).model_dump_json().encode(), headers)


def _store_invitation_response(
    idempotent_request: IdempotentRequest, uow: UnitOfWork, account: Account, is_new: bool
) -> Response:
    if is_new:
        return _store_created_response(idempotent_request, uow, account)
    return idempotent_request.store(
        uow, 200, _build_user(account).model_dump_json().encode(), {"ETag": format_entity_tag(account.version)}
    )


@users.post("", status_code=201, response_model=schemas.User, responses=document_headers(201, "Location", "ETag"))
async def register_user(request: Request, new_user: schemas.Registration, once: OptionalIdempotency) -> Response:
    """Register as a customer. An e-mail has one account: a taken one is refused with 409, which may be asked a few
    times only.

    A mail with a link asks whether the address is yours. The account works at once; until the link was used, no alerts
    and no promotional mails come, and no
    mail holds your name.
    """
    context = _get_context(request)
    # The stored fingerprint covers a password: under a key, so that it can't be guessed from a copy of the database.
    key = derive_secret(context.secret, "identity fingerprints").encode()
    sealed_request = dataclasses.replace(once, fingerprint=hmac.digest(key, once.fingerprint, "sha256"))

    async def run_registration() -> Response:
        return await registration.register_user(
            context,
            new_user,
            _find_network(request),
            lambda uow, account: _store_created_response(sealed_request, uow, account),
        )

    return await sealed_request.execute(context.database, run_registration)


@users.post(
    "/invitations",
    status_code=201,
    response_model=schemas.User,
    responses={
        **document_headers(200, "ETag", model=schemas.User, description="The e-mail has an account already"),
        **document_headers(201, "Location", "ETag"),
    },
)
async def invite_user(
    request: Request, invitation: schemas.Invitation, _: Admin, once: OptionalIdempotency
) -> Response:
    """Make a user of any role without a password; the user claims the account by a password reset. An e-mail that has
    an account: that one, unchanged.
    """
    context = _get_context(request)

    async def run_invitation() -> Response:
        return await registration.invite_user(context, invitation, partial(_store_invitation_response, once))

    return await once.execute(context.database, run_invitation)


@users.get("/me", response_model=schemas.User, responses=_ETAG_HEADERS)
async def show_me(request: Request, caller: Customer) -> Response:
    """Your profile."""
    return _build_user_response(await accounts.get_account(_get_context(request), caller.user_id))


@users.patch("/me", response_model=schemas.User, responses=_ETAG_HEADERS)
async def change_me(
    request: Request, patch: schemas.ProfilePatch, caller: Customer, if_match: IfMatch = None
) -> Response:
    """Change your profile. With `If-Match`, only the version that you have seen."""
    return _build_user_response(
        await accounts.change_profile(_get_context(request), caller.user_id, patch, partial(check_if_match, if_match))
    )


@users.post("/me/verification", status_code=202, response_model=schemas.VerificationReceipt)
async def mail_verification(request: Request, caller: Customer) -> Response:
    """Get another mail with a link that verifies your e-mail address; one in 20 minutes at most. 409 when it is
    verified.
    """
    await email_verification.mail_verification_again(_get_context(request), caller.user_id)
    return make_json_response(schemas.VerificationReceipt(detail="a mail with a link is on its way"), 202)


@users.post("/me/password", status_code=204)
async def change_password(request: Request, change: schemas.PasswordChange, caller: Customer) -> Response:
    """Change your password. Your other sessions and links that were mailed to you end; a security mail tells you."""
    await passwords.change_password(_get_context(request), caller, change)
    return Response(status_code=204)


@users.get("", response_model=Page[schemas.User])
async def list_users(
    request: Request,
    _: Admin,
    email: Annotated[
        EmailAddress | None, Query(description="only the user with this address", examples=["ada@example.com"])
    ] = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Response:
    """All users, newest first."""
    position = decode_cursor(cursor, UUID)
    accounts_found = await store.list_accounts(
        _get_context(request).database, email, position[0] if position else None, limit + 1
    )
    return make_page_response(accounts_found, limit, _build_user, lambda account: (account.id,))


@users.get("/{user_id:uuid}", response_model=schemas.User, responses=_ETAG_HEADERS)
async def show_user(request: Request, user_id: UUID, caller: Customer) -> Response:
    """One user: yourself, or anybody for an admin."""
    if caller.subject != str(user_id) and not caller.has_role("admin"):
        raise accounts.build_not_found(user_id)
    return _build_user_response(await accounts.get_account(_get_context(request), user_id))


@users.patch("/{user_id:uuid}", response_model=schemas.User, responses=_ETAG_HEADERS)
async def change_user(
    request: Request, user_id: UUID, patch: schemas.UserPatch, _: Admin, if_match: IfMatch = None
) -> Response:
    """Change a user's role, disable or enable. Either ends the user's sessions and mailed links. The last admin stays
    one.
    """
    return _build_user_response(
        await accounts.administer_user(_get_context(request), user_id, patch, partial(check_if_match, if_match))
    )


def _declare_field(max_length: int, description: str, *examples: str) -> Any:
    return Form(max_length=max_length, pattern=r"^[^\x00]*$", description=description, examples=list(examples))


@auth.post("/v1/auth/token", response_model=schemas.Tokens, responses=document_headers(200, "Set-Cookie"))
async def issue_tokens(
    request: Request,
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
    Tries with wrong passwords are slowed down (429, `Retry-After`). The cookie of a sign-in makes the device known:
    others' failed tries don't hold it up.
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
    context = _get_context(request)
    device = Device.decode(request.cookies.get(DEVICE_COOKIE, ""), derive_device_key(context))
    grant = await token_grants.grant_tokens(context, form, token_grants.RequestOrigin(_find_network(request), device))
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


@auth.post(
    "/v1/auth/revoke",
    responses={200: {"description": "The session of that token has ended, or the token was none"}},
    response_class=Response,
    openapi_extra={"requestBody": schemas.REVOCATION},
)
async def revoke_token(request: Request) -> Response:
    """Sign out: end the session of a refresh token (RFC 7009; JSON or form-encoded). Unknown tokens are answered
    alike.
    """
    await sessions.revoke_session(_get_context(request), await _read_token(request))
    return Response(headers=NO_STORE_HEADERS)


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


@auth.post("/v1/auth/password-reset", status_code=202, response_model=schemas.ResetReceipt)
async def request_password_reset(request: Request, body: schemas.ResetRequest) -> Response:
    """Ask for a mail with a link that sets a new password. The answer is the same whether the address has an account or
    not.
    """
    await passwords.request_reset(_get_context(request), body.email)
    return make_json_response(
        schemas.ResetReceipt(detail="if the address has an account, a mail with a link is on its way"), 202
    )


@auth.post("/v1/auth/password-reset/confirm", status_code=204)
async def confirm_password_reset(request: Request, confirmation: schemas.ResetConfirmation) -> Response:
    """Set a new password by the link's token, once. All sessions and links of the user end. An expired, used or ended
    link: 400.
    """
    await passwords.confirm_reset(_get_context(request), confirmation)
    return Response(status_code=204)


@auth.get("/.well-known/jwks.json", response_model=schemas.Jwks)
async def get_key_set(request: Request) -> Response:
    """The public keys of the tokens. Cache them, and look again for a `kid` that you don't know."""
    key_set = await keys.get_key_set(_get_context(request), KeySetRequest())
    return make_json_response(schemas.Jwks(keys=key_set.keys), headers={"Cache-Control": KEYS_CACHE_CONTROL})


@auth.get("/.well-known/openid-configuration", response_model=schemas.Discovery)
async def get_discovery_document(request: Request) -> Response:
    """Where this issuer's endpoints are."""
    url = _get_context(request).url
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
