"""Whether an e-mail address belongs to the user who gave it: a mail with a link, and the link's page.

Until then the account works (it signs in, orders, and gets the mails of its orders), but no mail to it holds what somebody else wrote: no name, no alerts, no
promotions, no welcome. So nobody gets the shop to write what they like to an address of their choice.
"""

import math
from datetime import datetime, timedelta
from uuid import UUID

from caravan.audit import audit
from caravan.clock import new_id
from caravan.database import UnitOfWork
from caravan.derivation import derive
from caravan.errors import Conflict, TooManyRequests
from services.identity.model import Account, is_verification, verification_account, verification_token
from services.identity.store import accounts
from services.identity.use_cases.accounts import account_of, announce_change
from services.identity.use_cases.alerts import alert, welcome
from services.identity.use_cases.keys import Identity

VERIFICATION_PAGE = "/v1/auth/verification/page"
LIFE = timedelta(days=3)
AGAIN_AFTER = timedelta(minutes=20)
"""After the first mail; twice as long after each further one, so that nobody's address is flooded by who registered it."""
RARELY = timedelta(days=3)
"""The longest of these pauses."""


def _key(context: Identity) -> bytes:
    return bytes.fromhex(derive(context.secret, "verification links"))


async def mail_verification(context: Identity, work: UnitOfWork, account: Account) -> timedelta:
    """Ask the address of an account; how long to wait until it may be asked again, where it may not now."""
    now = context.clock()
    if again := await accounts.note_verification_mail(work, account.id, now, AGAIN_AFTER, RARELY):
        return again - now
    link = f"{context.url}{VERIFICATION_PAGE}?token={verification_token(account, now + LIFE, _key(context))}"
    alert(work, account, "verify_email", f"verify:{new_id()}", link=link, days=LIFE.days)
    return timedelta()


async def mail_again(context: Identity, user_id: UUID) -> None:
    """Raises Conflict when there is nothing to verify, TooManyRequests when a mail was sent a moment ago."""
    account = await account_of(context, user_id)
    if account.verified:
        raise Conflict("your e-mail address is verified already")
    async with context.database.work() as work:
        if wait := await mail_verification(context, work, account):
            raise TooManyRequests(
                f"a mail is on its way; another one is sent after {math.ceil(wait / timedelta(minutes=1))} minutes",
                retry_after=math.ceil(wait.total_seconds()),
            )


async def account_to_verify(context: Identity, token: str) -> Account | None:
    """Whose address a link verifies; None when it has expired, or its account has another address or password since, or was disabled."""
    identifier = verification_account(token)
    account = await accounts.get(context.database, identifier) if identifier else None
    good = account is not None and not account.disabled and is_verification(token, account, context.clock(), _key(context))
    return account if good else None


async def verify(context: Identity, token: str) -> bool:
    """Take a link; whether it was good. A second time changes nothing."""
    account = await account_to_verify(context, token)
    if account is None:
        return False
    async with context.database.work() as work:
        await mark_verified(work, account, context.clock())
    return True


async def mark_verified(work: UnitOfWork, account: Account, now: datetime) -> None:
    """The user has shown that the mailbox is theirs."""
    changed = await accounts.verify(work, account.id, now)
    if changed is not None:
        announce_change(work, changed)
        welcome(work, changed)
        audit(work, "email.verified", f"user:{account.id}", actor=f"{account.role}:{account.id}")
