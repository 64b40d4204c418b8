"""Verifies that an e-mail address belongs to its user: a mail with a link, and the link's page.

Until then the account works: its user logs in, orders, and gets the mails of these orders. But no mail to the address
holds text that somebody else wrote (no name, no alerts, no promotions, no welcome), so that nobody can use the shop to
write to a stranger.
"""

import math
from datetime import datetime, timedelta
from uuid import UUID

from caravan.audit import record_audit
from caravan.clock import new_id
from caravan.database import UnitOfWork
from caravan.derivation import derive_secret
from caravan.errors import Conflict, TooManyRequests
from services.identity.model import Account, create_verification_token, is_valid_verification, read_verification_account
from services.identity.store import accounts
from services.identity.use_cases.accounts import announce_change, get_account
from services.identity.use_cases.alerts import send_alert, send_welcome
from services.identity.use_cases.keys import IdentityContext

VERIFICATION_PAGE = "/v1/auth/verification/page"
LINK_LIFETIME = timedelta(days=3)
FIRST_PAUSE = timedelta(minutes=20)
"""After the first mail; twice as long after each further one, so that nobody's address is flooded by who registered
it.
"""
MAX_PAUSE = timedelta(days=3)
"""The longest of these pauses."""


def _derive_link_key(context: IdentityContext) -> bytes:
    return bytes.fromhex(derive_secret(context.secret, "verification links"))


async def mail_verification(context: IdentityContext, uow: UnitOfWork, account: Account) -> timedelta:
    """Ask the address of an account; how long to wait until it may be asked again, where it may not now."""
    now = context.clock()
    if next_at := await accounts.claim_verification_mail(uow, account.id, now, FIRST_PAUSE, MAX_PAUSE):
        return next_at - now
    token = create_verification_token(account, now + LINK_LIFETIME, _derive_link_key(context))
    link = f"{context.url}{VERIFICATION_PAGE}?token={token}"
    send_alert(uow, account, "verify_email", f"verify:{new_id()}", link=link, days=LINK_LIFETIME.days)
    return timedelta()


async def mail_verification_again(context: IdentityContext, user_id: UUID) -> None:
    """Raises Conflict when there is nothing to verify, TooManyRequests when a mail was sent a moment ago."""
    account = await get_account(context, user_id)
    if account.verified:
        raise Conflict("your e-mail address is verified already")
    async with context.database.unit_of_work() as uow:
        if wait_time := await mail_verification(context, uow, account):
            minutes = math.ceil(wait_time / timedelta(minutes=1))
            raise TooManyRequests(
                f"a mail is on its way; another one is sent after {minutes} minutes",
                retry_after=math.ceil(wait_time.total_seconds()),
            )


async def find_account_to_verify(context: IdentityContext, token: str) -> Account | None:
    """Whose address a link verifies; None when it has expired, or its account has another address or password since, or
    was disabled.
    """
    identifier = read_verification_account(token)
    account = await accounts.get_account(context.database, identifier) if identifier else None
    is_good = (
        account is not None
        and not account.disabled
        and is_valid_verification(token, account, context.clock(), _derive_link_key(context))
    )
    return account if is_good else None


async def verify_email(context: IdentityContext, token: str) -> bool:
    """Take a link; whether it was good. A second time changes nothing."""
    account = await find_account_to_verify(context, token)
    if account is None:
        return False
    async with context.database.unit_of_work() as uow:
        await mark_verified(uow, account, context.clock())
    return True


async def mark_verified(uow: UnitOfWork, account: Account, now: datetime) -> None:
    """The user has shown that the mailbox is theirs."""
    changed = await accounts.set_verified(uow, account.id, now)
    if changed is not None:
        announce_change(uow, changed)
        send_welcome(uow, changed)
        record_audit(uow, "email.verified", f"user:{account.id}", actor=f"{account.role}:{account.id}")
