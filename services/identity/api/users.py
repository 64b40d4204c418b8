"""Users: registration, your own profile, and the administration of others."""

import dataclasses
import hmac
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from caravan.auth import Admin, Customer
from caravan.database import UnitOfWork
from caravan.derivation import derive_secret
from caravan.email_address import EmailAddress
from caravan.http import (
    CursorParameter,
    IfMatch,
    Injected,
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
from services.identity.api.context import find_network, require_open_session
from services.identity.model import Account
from services.identity.store import accounts as store
from services.identity.use_cases import accounts, email_verification, passwords, registration
from services.identity.use_cases.keys import IdentityContext

_ETAG_HEADERS = document_headers(200, "ETag")
router = APIRouter(prefix="/v1/users", tags=["users"], dependencies=[Depends(require_open_session)])


def _build_user(account: Account) -> schemas.User:
    return schemas.User(
        **{name: getattr(account, name) for name in schemas.User.model_fields if name not in ("invited", "external")},
        invited=account.password is None and account.external_issuer is None,
        external=account.external_issuer is not None,
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


@router.post("", status_code=201, response_model=schemas.User, responses=document_headers(201, "Location", "ETag"))
async def register_user(
    request: Request, context: Injected[IdentityContext], new_user: schemas.Registration, once: OptionalIdempotency
) -> Response:
    """Register as a customer. An e-mail has one account: a taken one is refused with 409, which may be asked a few
    times only.

    A mail with a link asks whether the address is yours. The account works at once; until the link was used, no alerts
    and no promotional mails come, and no mail holds your name.
    """
    # The stored fingerprint covers a password: under a key, so that it can't be guessed from a copy of the database.
    key = derive_secret(context.secret, "identity fingerprints").encode()
    sealed_request = dataclasses.replace(once, fingerprint=hmac.digest(key, once.fingerprint, "sha256"))

    async def run_registration() -> Response:
        return await registration.register_user(
            context,
            new_user,
            find_network(request, context),
            lambda uow, account: _store_created_response(sealed_request, uow, account),
        )

    return await sealed_request.execute(context.database, run_registration)


@router.post(
    "/invitations",
    status_code=201,
    response_model=schemas.User,
    responses={
        **document_headers(200, "ETag", model=schemas.User, description="The e-mail has an account already"),
        **document_headers(201, "Location", "ETag"),
    },
)
async def invite_user(
    context: Injected[IdentityContext], invitation: schemas.Invitation, _: Admin, once: OptionalIdempotency
) -> Response:
    """Make a user of any role without a password; the user claims the account by a password reset. An e-mail that has
    an account: that one, unchanged.
    """

    async def run_invitation() -> Response:
        return await registration.invite_user(context, invitation, partial(_store_invitation_response, once))

    return await once.execute(context.database, run_invitation)


@router.get("/me", response_model=schemas.User, responses=_ETAG_HEADERS)
async def show_me(context: Injected[IdentityContext], caller: Customer) -> Response:
    """Your profile."""
    return _build_user_response(await accounts.get_account(context, caller.user_id))


@router.patch("/me", response_model=schemas.User, responses=_ETAG_HEADERS)
async def change_me(
    context: Injected[IdentityContext], patch: schemas.ProfilePatch, caller: Customer, if_match: IfMatch = None
) -> Response:
    """Change your profile. With `If-Match`, only the version that you have seen."""
    return _build_user_response(
        await accounts.change_profile(context, caller.user_id, patch, partial(check_if_match, if_match))
    )


@router.post("/me/verification", status_code=202, response_model=schemas.VerificationReceipt)
async def mail_verification(context: Injected[IdentityContext], caller: Customer) -> Response:
    """Get another mail with a link that verifies your e-mail address; one in 20 minutes at most. 409 when it is
    verified.
    """
    await email_verification.mail_verification_again(context, caller.user_id)
    return make_json_response(schemas.VerificationReceipt(detail="a mail with a link is on its way"), 202)


@router.post("/me/password", status_code=204)
async def change_password(
    context: Injected[IdentityContext], change: schemas.PasswordChange, caller: Customer
) -> Response:
    """Change your password. Your other sessions and links that were mailed to you end; a security mail tells you."""
    await passwords.change_password(context, caller, change)
    return Response(status_code=204)


@router.get("", response_model=Page[schemas.User])
async def list_users(
    context: Injected[IdentityContext],
    _: Admin,
    email: Annotated[
        EmailAddress | None, Query(description="only the user with this address", examples=["ada@example.com"])
    ] = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Response:
    """All users, newest first."""
    position = decode_cursor(cursor, UUID)
    accounts_found = await store.list_accounts(context.database, email, position[0] if position else None, limit + 1)
    return make_page_response(accounts_found, limit, _build_user, lambda account: (account.id,))


@router.get("/{user_id:uuid}", response_model=schemas.User, responses=_ETAG_HEADERS)
async def show_user(context: Injected[IdentityContext], user_id: UUID, caller: Customer) -> Response:
    """One user: yourself, or anybody for an admin."""
    if caller.subject != str(user_id) and not caller.has_role("admin"):
        raise accounts.build_not_found(user_id)
    return _build_user_response(await accounts.get_account(context, user_id))


@router.patch("/{user_id:uuid}", response_model=schemas.User, responses=_ETAG_HEADERS)
async def change_user(
    context: Injected[IdentityContext], user_id: UUID, patch: schemas.UserPatch, _: Admin, if_match: IfMatch = None
) -> Response:
    """Change a user's role, disable or enable. Either ends the user's sessions and mailed links. The last admin stays
    one.
    """
    return _build_user_response(
        await accounts.administer_user(context, user_id, patch, partial(check_if_match, if_match))
    )
