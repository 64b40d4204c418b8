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
from caravan.derivation import derive
from caravan.email_address import EmailAddress
from caravan.errors import BadRequest, Invalid
from caravan.http import (
    CursorParameter,
    IfMatch,
    Limit,
    Page,
    check_if_match,
    decode_cursor,
    document_headers,
    entity_tag,
    json_response,
    page_response,
)
from caravan.idempotency import Once, OnceIfKeyed
from services.identity import schemas
from services.identity.client import KeysRequest
from services.identity.model import Account, Device, client_network
from services.identity.store import accounts as store
from services.identity.use_cases import accounts, granting, keys, passwords, registering, sessions, verifying
from services.identity.use_cases.keys import Identity
from services.identity.use_cases.tries import device_key

OPEN_LINES = {"Cache-Control": "no-store", "Pragma": "no-cache"}
DEVICE_COOKIE = "caravan-device"
DEVICE_DAYS = 365
KEYS_CACHED = "public, max-age=300"
_WITH_TAG = document_headers(200, "ETag")


def _context(request: Request) -> Identity:
    context: Identity = request.app.state.context
    return context


def _network(request: Request) -> str:
    peer = request.client.host if request.client else None
    return client_network(peer, request.headers.get("x-forwarded-for", ""), _context(request).settings.gateway_networks)


async def _open_session(request: Request, caller: Anyone) -> None:
    """Here a token ends with its session at once; elsewhere within the seconds for which the session's state is cached."""
    if caller is not None:
        await sessions.require_open_session(_context(request), caller)


users = APIRouter(prefix="/v1/users", tags=["users"], dependencies=[Depends(_open_session)])
auth = APIRouter(tags=["auth"])


def _user(account: Account) -> schemas.User:
    return schemas.User(
        **{name: getattr(account, name) for name in schemas.User.model_fields if name != "invited"}, invited=account.password is None
    )


def _answer(account: Account) -> Response:
    return json_response(_user(account), headers={"ETag": entity_tag(account.version)})


def _created(once: Once, work: UnitOfWork, account: Account) -> Response:
    headers = {"Location": f"/v1/users/{account.id}", "ETag": entity_tag(account.version)}
    return once.save(work, 201, _user(account).model_dump_json().encode(), headers)


def _answer_invitation(once: Once, work: UnitOfWork, account: Account, is_new: bool) -> Response:
    if is_new:
        return _created(once, work, account)
    return once.save(work, 200, _user(account).model_dump_json().encode(), {"ETag": entity_tag(account.version)})


@users.post("", status_code=201, response_model=schemas.User, responses=document_headers(201, "Location", "ETag"))
async def register_user(request: Request, registration: schemas.Registration, once: OnceIfKeyed) -> Response:
    """Register as a customer. An e-mail has one account: a taken one is refused with 409, which may be asked a few times only.

    A mail with a link asks whether the address is yours. The account works at once; until the link was used, no alerts and no promotional mails come, and no
    mail holds your name.
    """
    context = _context(request)
    # The stored fingerprint covers a password: under a key, so that it can't be guessed from a copy of the database.
    key = derive(context.secret, "identity fingerprints").encode()
    sealed = dataclasses.replace(once, fingerprint=hmac.digest(key, once.fingerprint, "sha256"))

    async def act() -> Response:
        return await registering.register(context, registration, _network(request), lambda work, account: _created(sealed, work, account))

    return await sealed.run(context.database, act)


@users.post(
    "/invitations",
    status_code=201,
    response_model=schemas.User,
    responses={
        **document_headers(200, "ETag", model=schemas.User, description="The e-mail has an account already"),
        **document_headers(201, "Location", "ETag"),
    },
)
async def invite_user(request: Request, invitation: schemas.Invitation, _: Admin, once: OnceIfKeyed) -> Response:
    """Make a user of any role without a password; the user claims the account by a password reset. An e-mail that has an account: that one, unchanged."""
    context = _context(request)

    async def act() -> Response:
        return await registering.invite(context, invitation, partial(_answer_invitation, once))

    return await once.run(context.database, act)


@users.get("/me", response_model=schemas.User, responses=_WITH_TAG)
async def show_me(request: Request, caller: Customer) -> Response:
    """Your profile."""
    return _answer(await accounts.account_of(_context(request), caller.user_id))


@users.patch("/me", response_model=schemas.User, responses=_WITH_TAG)
async def change_me(request: Request, patch: schemas.ProfilePatch, caller: Customer, if_match: IfMatch = None) -> Response:
    """Change your profile. With `If-Match`, only the version that you have seen."""
    return _answer(await accounts.change_profile(_context(request), caller.user_id, patch, partial(check_if_match, if_match)))


@users.post("/me/verification", status_code=202, response_model=schemas.VerificationMailed)
async def mail_verification(request: Request, caller: Customer) -> Response:
    """Get another mail with a link that verifies your e-mail address; one in 20 minutes at most. 409 when it is verified."""
    await verifying.mail_again(_context(request), caller.user_id)
    return json_response(schemas.VerificationMailed(detail="a mail with a link is on its way"), 202)


@users.post("/me/password", status_code=204)
async def change_password(request: Request, change: schemas.PasswordChange, caller: Customer) -> Response:
    """Change your password. Your other sessions and links that were mailed to you end; a security mail tells you."""
    await passwords.change_password(_context(request), caller, change)
    return Response(status_code=204)


@users.get("", response_model=Page[schemas.User])
async def list_users(
    request: Request,
    _: Admin,
    email: Annotated[EmailAddress | None, Query(description="only the user with this address", examples=["ada@example.com"])] = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Response:
    """All users, newest first."""
    position = decode_cursor(cursor, UUID)
    found = await store.page(_context(request).database, email, position[0] if position else None, limit + 1)
    return page_response(found, limit, _user, lambda account: (account.id,))


@users.get("/{user_id:uuid}", response_model=schemas.User, responses=_WITH_TAG)
async def show_user(request: Request, user_id: UUID, caller: Customer) -> Response:
    """One user: yourself, or anybody for an admin."""
    if caller.subject != str(user_id) and not caller.at_least("admin"):
        raise accounts.no_user(user_id)
    return _answer(await accounts.account_of(_context(request), user_id))


@users.patch("/{user_id:uuid}", response_model=schemas.User, responses=_WITH_TAG)
async def change_user(request: Request, user_id: UUID, patch: schemas.UserPatch, _: Admin, if_match: IfMatch = None) -> Response:
    """Change a user's role, disable or enable. Either ends the user's sessions and mailed links. The last admin stays one."""
    return _answer(await accounts.administer(_context(request), user_id, patch, partial(check_if_match, if_match)))


def _field(most: int, description: str, *examples: str) -> Any:
    return Form(max_length=most, pattern=r"^[^\x00]*$", description=description, examples=list(examples))


@auth.post("/v1/auth/token", response_model=schemas.Tokens, responses=document_headers(200, "Set-Cookie"))
async def issue_tokens(
    request: Request,
    grant_type: Annotated[str, _field(100, f"`password`, `refresh_token`, `client_credentials` or `{granting.EXCHANGE}`", "password")] = "",
    username: Annotated[str, _field(254, "password: the e-mail address", "ada@example.com")] = "",
    password: Annotated[str, _field(128, "password: the password", "a long walk in Palmyra")] = "",
    refresh_token: Annotated[str, _field(200, "refresh_token: the token; it is used up")] = "",
    client_id: Annotated[str, _field(100, "client_credentials: the client; HTTP Basic does as well")] = "",
    client_secret: Annotated[str, _field(200, "client_credentials: its secret")] = "",
    subject_token: Annotated[str, _field(8192, "token exchange: an admin's access token")] = "",
    subject_token_type: Annotated[str, _field(100, f"token exchange: `{granting.ACCESS_TOKEN}`")] = "",
    requested_subject: Annotated[str, _field(254, "token exchange: the customer to act for, by id or e-mail", "ada@example.com")] = "",
) -> Response:
    """Get tokens (OAuth 2.0, form-encoded). A refusal has `error` and `error_description` (RFC 6749) in its problem document.

    Each refresh token is for one use; using one twice, also at the same moment, ends the session and mails its owner.
    Tries with wrong passwords are slowed down (429, `Retry-After`). The cookie of a sign-in makes the device known: others' failed tries don't hold it up.
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
        **_basic(request),
    }
    context = _context(request)
    device = Device.read(request.cookies.get(DEVICE_COOKIE, ""), device_key(context))
    granted = await granting.grant_tokens(context, form, granting.Origin(_network(request), device))
    answer = json_response(granted.tokens.model_dump_json(exclude_none=True).encode(), headers=OPEN_LINES)
    if granted.device:
        secure = context.url.startswith("https:")
        answer.set_cookie(DEVICE_COOKIE, granted.device, DEVICE_DAYS * 86400, path="/v1/auth", secure=secure, httponly=True, samesite="lax")
    return answer


def _basic(request: Request) -> dict[str, str]:
    """Client id and secret from HTTP Basic (RFC 6749 §2.3.1)."""
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
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
    """Sign out: end the session of a refresh token (RFC 7009; JSON or form-encoded). Unknown tokens are answered alike."""
    await sessions.revoke_session(_context(request), await _given_token(request))
    return Response(headers=OPEN_LINES)


async def _given_token(request: Request) -> str:
    if request.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded"):
        token = (await request.form()).get("token")
    else:
        try:
            given = await request.json()
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not valid JSON: {getattr(error, 'msg', 'it can not be read')}") from None
        token = given.get("token") if isinstance(given, dict) else None
    if not isinstance(token, str) or not 1 <= len(token) <= 200:
        raise Invalid("not valid: token", errors=[{"field": "token", "rule": "a refresh token is a string of 1 to 200 characters"}])
    return token


@auth.post("/v1/auth/password-reset", status_code=202, response_model=schemas.ResetRequested)
async def request_password_reset(request: Request, body: schemas.ResetRequest) -> Response:
    """Ask for a mail with a link that sets a new password. The answer is the same whether the address has an account or not."""
    await passwords.request_reset(_context(request), body.email)
    return json_response(schemas.ResetRequested(detail="if the address has an account, a mail with a link is on its way"), 202)


@auth.post("/v1/auth/password-reset/confirm", status_code=204)
async def confirm_password_reset(request: Request, confirmation: schemas.ResetConfirmation) -> Response:
    """Set a new password by the link's token, once. All sessions and links of the user end. An expired, used or ended link: 400."""
    await passwords.confirm_reset(_context(request), confirmation)
    return Response(status_code=204)


@auth.get("/.well-known/jwks.json", response_model=schemas.Jwks)
async def key_set(request: Request) -> Response:
    """The public keys of the tokens. Cache them, and look again for a `kid` that you don't know."""
    found = await keys.published(_context(request), KeysRequest())
    return json_response(schemas.Jwks(keys=found.keys), headers={"Cache-Control": KEYS_CACHED})


@auth.get("/.well-known/openid-configuration", response_model=schemas.Discovery)
async def discovery_document(request: Request) -> Response:
    """Where this issuer's endpoints are."""
    url = _context(request).url
    document = schemas.Discovery(
        issuer=url,
        token_endpoint=f"{url}/v1/auth/token",
        revocation_endpoint=f"{url}/v1/auth/revoke",
        jwks_uri=f"{url}/.well-known/jwks.json",
        userinfo_endpoint=f"{url}/v1/users/me",
        response_types_supported=[],
        subject_types_supported=["public"],
        grant_types_supported=list(granting.GRANTS),
        id_token_signing_alg_values_supported=["EdDSA"],
        token_endpoint_auth_methods_supported=["client_secret_post", "client_secret_basic"],
        revocation_endpoint_auth_methods_supported=["none"],
    )
    return json_response(document, headers={"Cache-Control": KEYS_CACHED})
