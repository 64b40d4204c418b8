"""Passwords: changed by their owner, or set anew through a link in a mail."""

import secrets
from datetime import timedelta
from uuid import UUID

from caravan.audit import audit
from caravan.auth import Caller
from caravan.clock import new_id
from caravan.database import UnitOfWork
from caravan.errors import BadRequest, Conflict, Forbidden, Invalid
from caravan.passwords import normal_password
from services.identity.model import Account, fingerprint
from services.identity.schemas import PasswordChange, ResetConfirmation
from services.identity.store import accounts, resets
from services.identity.use_cases.accounts import account_of
from services.identity.use_cases.alerts import alert
from services.identity.use_cases.keys import Identity
from services.identity.use_cases.registering import check_password
from services.identity.use_cases.sessions import end_access
from services.identity.use_cases.tries import begin_try_of_session, fail_try, pass_try
from services.identity.use_cases.verifying import mark_verified

MAILS_AT_ONCE = 50
RESET_PAGE = "/v1/auth/password-reset/page"
"""Where the links of the mails lead, with the token in the query: no log and no span of the shop holds a query."""


async def change_password(context: Identity, caller: Caller, change: PasswordChange) -> None:
    """Replace the caller's password; other sessions of the user and mailed links end, this session stays."""
    if caller.actor is not None:
        raise Forbidden("a password is changed by its owner, not in the owner's name")
    account = await account_of(context, caller.user_id)
    check_password(change.new_password, account.email, account.name, "new_password")
    given = await begin_try_of_session(context, caller)
    right, _ = await context.parts.hasher.verify(normal_password(change.current_password), account.password)
    if not right:
        fail_try()
        async with context.database.work() as work:
            audit(work, "password.changed", f"user:{account.id}", result="refused", reason="wrong password")
        raise Invalid("not valid: current_password", errors=[{"field": "current_password", "rule": "is not your password"}])
    hashed = await context.parts.hasher.hash(normal_password(change.new_password))
    now = context.clock()
    async with context.database.work() as work:
        if not await accounts.set_password(work, account.id, hashed, now, old=account.password):
            raise Conflict("the password was changed by another request at the same moment; sign in with the new one")
        await end_access(work, account.id, "password", but=_session(caller))
        await pass_try(work, given)
        _tell(work, account, "password.changed")


def _session(caller: Caller) -> UUID | None:
    try:
        return UUID(caller.session)
    except ValueError:
        return None


def _tell(work: UnitOfWork, account: Account, action: str) -> None:
    alert(work, account, "password_changed", f"password:{account.id}:{new_id()}")
    audit(work, action, f"user:{account.id}", actor=f"{account.role}:{account.id}")


async def request_reset(context: Identity, email: str) -> None:
    """Only note the address: whether it has an account is looked up later, so that this answer can't tell."""
    await resets.request(context.database, email, context.clock())
    context.nudge("resets")


async def mail_links(context: Identity) -> bool:
    """Send a link to each noted address that has an account, within its limits. Links are stored as fingerprints."""
    knobs, now = context.settings, context.clock()
    life = timedelta(minutes=knobs.reset_minutes)
    async with context.database.work() as work:
        emails = await resets.take_requests(work, MAILS_AT_ONCE)
        for account in await resets.entitled(work, emails, knobs.reset_mails_per_hour, knobs.reset_mails_per_day, now) if emails else ():
            token = secrets.token_urlsafe(32)
            await resets.insert_link(work, fingerprint(token), account.id, now, life)
            link = f"{context.url}{RESET_PAGE}?token={token}"
            alert(work, account, "password_reset", f"reset:{new_id()}", link=link, minutes=knobs.reset_minutes)
            audit(work, "password.reset_requested", f"user:{account.id}")
    return len(emails) == MAILS_AT_ONCE


async def is_good(context: Identity, token: str) -> bool:
    """Whether a link still works."""
    return await resets.owner(context.database, fingerprint(token), context.clock()) is not None


async def confirm_reset(context: Identity, confirmation: ResetConfirmation) -> None:
    """Set the password by a mailed link, once; every session and every other link of the user ends."""
    link, now = fingerprint(confirmation.token), context.clock()
    account = await resets.owner(context.database, link, now)
    if account is None:
        raise _used_up()
    check_password(confirmation.password, account.email, account.name, "password")
    hashed = await context.parts.hasher.hash(normal_password(confirmation.password))
    async with context.database.work() as work:
        await accounts.set_password(work, account.id, hashed, now)
        if not await resets.use(work, link, now):
            raise _used_up()
        await end_access(work, account.id, "reset")
        await mark_verified(work, account, now)  # the link came to the address
        _tell(work, account, "password.reset")


def _used_up() -> BadRequest:
    return BadRequest("this link has expired or was used; ask for a new one at POST /v1/auth/password-reset")
