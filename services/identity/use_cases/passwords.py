"""Passwords: changed by their owner, or reset through a mailed link."""

import secrets
from datetime import timedelta
from uuid import UUID

from caravan.audit import record_audit
from caravan.auth import Caller
from caravan.clock import new_id
from caravan.database import UnitOfWork
from caravan.errors import BadRequest, Conflict, Forbidden, InvalidRequest
from caravan.passwords import normalize_password
from services.identity.model import Account, compute_fingerprint
from services.identity.schemas import PasswordChange, ResetConfirmation
from services.identity.store import accounts, external, resets
from services.identity.use_cases.accounts import get_account
from services.identity.use_cases.alerts import send_alert
from services.identity.use_cases.email_verification import mark_verified
from services.identity.use_cases.keys import IdentityContext
from services.identity.use_cases.login_attempts import begin_session_attempt, fail_attempt, pass_attempt
from services.identity.use_cases.registration import check_password
from services.identity.use_cases.sessions import end_access

MAILS_PER_BATCH = 50
RESET_PAGE = "/v1/auth/password-reset/page"
"""Where the links of the mails lead, with the token in the query: no log and no span of the shop holds a query."""


async def change_password(context: IdentityContext, caller: Caller, change: PasswordChange) -> None:
    """Replace the caller's password; other sessions of the user and mailed links end, this session stays."""
    if caller.actor is not None:
        raise Forbidden("a password is changed by its owner, not in the owner's name")
    account = await get_account(context, caller.user_id)
    check_password(change.new_password, account.email, account.name, "new_password")
    attempt = await begin_session_attempt(context, caller)
    is_right, _ = await context.resources.hasher.verify_password(
        normalize_password(change.current_password), account.password
    )
    if not is_right:
        fail_attempt()
        async with context.database.unit_of_work() as uow:
            record_audit(uow, "password.changed", f"user:{account.id}", result="refused", reason="wrong password")
        raise InvalidRequest(
            "not valid: current_password", errors=[{"field": "current_password", "rule": "is not your password"}]
        )
    hashed = await context.resources.hasher.hash_password(normalize_password(change.new_password))
    now = context.clock()
    async with context.database.unit_of_work() as uow:
        if not await accounts.set_password(uow, account.id, hashed, now, old=account.password):
            raise Conflict("the password was changed by another request at the same moment; sign in with the new one")
        await end_access(uow, account.id, "password", except_session=_parse_session_id(caller))
        await pass_attempt(uow, attempt)
        _announce_new_password(uow, account, "password.changed")


def _parse_session_id(caller: Caller) -> UUID | None:
    try:
        return UUID(caller.session)
    except ValueError:
        return None


def _announce_new_password(uow: UnitOfWork, account: Account, action: str) -> None:
    send_alert(uow, account, "password_changed", f"password:{account.id}:{new_id()}")
    record_audit(uow, action, f"user:{account.id}", actor=f"{account.role}:{account.id}")


async def request_reset(context: IdentityContext, email: str) -> None:
    """Only note the address: whether it has an account is looked up later, so that this answer can't tell."""
    await resets.insert_request(context.database, email, context.clock())
    context.wake("mail-reset-links")


async def mail_reset_links(context: IdentityContext) -> bool:
    """Send a link to each noted address that has an account, within its limits. Links are stored as fingerprints."""
    settings, now = context.settings, context.clock()
    lifetime = timedelta(minutes=settings.reset_minutes)
    async with context.database.unit_of_work() as uow:
        emails = await resets.claim_requests(uow, MAILS_PER_BATCH)
        for account in (
            await resets.lock_entitled_accounts(
                uow, emails, settings.reset_mails_per_hour, settings.reset_mails_per_day, now
            )
            if emails
            else ()
        ):
            token = secrets.token_urlsafe(32)
            await resets.insert_link(uow, compute_fingerprint(token), account.id, now, lifetime)
            link = f"{context.url}{RESET_PAGE}?token={token}"
            send_alert(uow, account, "password_reset", f"reset:{new_id()}", link=link, minutes=settings.reset_minutes)
            record_audit(uow, "password.reset_requested", f"user:{account.id}")
    return len(emails) == MAILS_PER_BATCH


async def is_valid_link(context: IdentityContext, token: str) -> bool:
    """Whether a link still works."""
    return await resets.find_link_owner(context.database, compute_fingerprint(token), context.clock()) is not None


async def confirm_reset(context: IdentityContext, confirmation: ResetConfirmation) -> None:
    """Set the password by a mailed link, once; every session and every other link of the user ends."""
    link, now = compute_fingerprint(confirmation.token), context.clock()
    account = await resets.find_link_owner(context.database, link, now)
    if account is None:
        raise _build_used_link_error()
    check_password(confirmation.password, account.email, account.name, "password")
    hashed = await context.resources.hasher.hash_password(normalize_password(confirmation.password))
    async with context.database.unit_of_work() as uow:
        await accounts.set_password(uow, account.id, hashed, now)
        if not await resets.use_link(uow, link, now):
            raise _build_used_link_error()
        await end_access(uow, account.id, "reset")
        await mark_verified(uow, account, now)  # the link came to the address
        if not account.verified and await external.unlink_account(uow, account.id):
            # Whoever signed in elsewhere with an address that nobody had verified need not be its owner.
            record_audit(uow, "user.unlinked", f"user:{account.id}", actor=f"user:{account.id}")
        _announce_new_password(uow, account, "password.reset")


def _build_used_link_error() -> BadRequest:
    return BadRequest("this link has expired or was used; ask for a new one at POST /v1/auth/password-reset")
