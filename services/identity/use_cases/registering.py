"""New users: who registers, who is invited, and the first admin."""

import secrets
from collections.abc import Callable
from typing import TypeVar

from caravan.audit import audit
from caravan.clock import new_id
from caravan.database import UnitOfWork
from caravan.errors import Invalid
from caravan.passwords import normal_password, password_fault
from caravan.telemetry import log
from services.identity.client import AdminEnsured, EnsureAdminRequest
from services.identity.messages import USER_REGISTERED, UserRegistered
from services.identity.model import Account, EmailTaken, UserRole, counter, normal_email
from services.identity.schemas import Invitation, Registration
from services.identity.store import accounts, attempts
from services.identity.use_cases.keys import Identity
from services.identity.use_cases.tries import too_many
from services.identity.use_cases.verifying import mail_verification

R = TypeVar("R")

FREE_TAKEN = 20
"""Registrations with a taken e-mail from one address before they are delayed: the answer 409 tells who has an account, so it must not be asked at will."""
ADMIN_NAME = "Admin"


async def register(context: Identity, registration: Registration, network: str, finish: Callable[[UnitOfWork, Account], R]) -> R:
    """A new customer; `finish` makes the answer within the unit of work."""
    check_password(registration.password, registration.email, registration.name, "password")
    taken = counter("taken", network, free=FREE_TAKEN)
    seconds = await attempts.take(context.database, [taken], context.clock(), context.settings.longest_delay_seconds)
    if seconds:
        raise too_many(seconds)
    password = await context.parts.hasher.hash(normal_password(registration.password))
    async with context.database.work() as work:
        account = await _add(work, registration.email, registration.name, "customer", password, network=network, invited=False)
        if account is not None:
            await attempts.forgive(work, None, [taken])
            await mail_verification(context, work, account)
            return finish(work, account)
    raise EmailTaken(f"{registration.email} has an account; sign in, or reset its password")


def check_password(password: str, email: str, name: str, field: str) -> None:
    fault = password_fault(password, email, name)
    if fault:
        raise Invalid(f"not valid: {field}", errors=[{"field": field, "rule": fault}])


async def _add(
    work: UnitOfWork, email: str, name: str, role: UserRole, password: str | None, *, network: str | None = None, invited: bool = True
) -> Account | None:
    account = await accounts.insert(work, new_id(), email, name, role, password, work.database.clock(), network, verified=invited)
    if account is not None:
        event = UserRegistered(user_id=account.id, email=email, name=name, role=role, invited=invited)
        work.emit(USER_REGISTERED, event, key=account.id)
    return account


async def invite(context: Identity, invitation: Invitation, finish: Callable[[UnitOfWork, Account, bool], R]) -> R:
    """A user without a password, who claims the account by a password reset. An existing user is returned as it is: `finish` is told whether it is new."""
    async with context.database.work() as work:
        account = await _add(work, invitation.email, invitation.name, invitation.role, None)
        if account is not None:
            audit(work, "user.invited", f"user:{account.id}", role=account.role)
            return finish(work, account, True)
        existing = await accounts.find(work, invitation.email)
        assert existing is not None, "users are never deleted"
        return finish(work, existing, False)


async def ensure_admin(context: Identity, request: EnsureAdminRequest) -> AdminEnsured:
    """Make the first admin, unless somebody is admin already."""
    if await accounts.admin_exists(context.database):
        return AdminEnsured(generated=None)
    password = request.password or secrets.token_urlsafe(15)
    hashed = await context.parts.hasher.hash(normal_password(password))
    async with context.database.work() as work:
        await accounts.lock_admins(work)
        if await accounts.admin_exists(work):
            return AdminEnsured(generated=None)
        admin = await _add(work, normal_email(request.email), ADMIN_NAME, "admin", hashed)
        if admin is None:  # never promoted: whoever registered with the address first need not be the operator
            log.error("no admin was made: the e-mail is a customer's", email=request.email)
            return AdminEnsured(generated=None)
        audit(work, "role.changed", f"user:{admin.id}", actor="operator", to="admin")
    return AdminEnsured(generated=None if request.password else password)
