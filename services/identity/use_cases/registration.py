"""New users: registration, invitations, and the first admin."""

import secrets
from collections.abc import Callable
from typing import TypeVar

from caravan.audit import record_audit
from caravan.clock import new_id
from caravan.database import UnitOfWork
from caravan.errors import InvalidRequest
from caravan.passwords import find_password_weakness, normalize_password
from caravan.telemetry import log
from services.identity.client import EnsureAdminRequest, EnsureAdminResult
from services.identity.messages import USER_REGISTERED, UserRegistered, UserRole
from services.identity.model import Account, DuplicateEmail, build_counter, normalize_email
from services.identity.schemas import Invitation, Registration
from services.identity.store import accounts, attempts
from services.identity.use_cases.email_verification import mail_verification
from services.identity.use_cases.keys import IdentityContext
from services.identity.use_cases.login_attempts import build_too_many_error

R = TypeVar("R")

FREE_DUPLICATE_ATTEMPTS = 20
"""Registrations with a taken e-mail from one address before they are delayed: the answer 409 tells who has an account,
so it must not be asked at will.
"""
ADMIN_NAME = "Admin"


async def register_user(
    context: IdentityContext,
    registration: Registration,
    network: str,
    build_response: Callable[[UnitOfWork, Account], R],
) -> R:
    """A new customer; `finish` makes the answer within the unit of work."""
    check_password(registration.password, registration.email, registration.name, "password")
    duplicate_counter = build_counter("taken", network, free_attempts=FREE_DUPLICATE_ATTEMPTS)
    seconds = await attempts.count_attempt(
        context.database, [duplicate_counter], context.clock(), context.settings.max_delay_seconds
    )
    if seconds:
        raise build_too_many_error(seconds)
    password = await context.resources.hasher.hash_password(normalize_password(registration.password))
    async with context.database.unit_of_work() as uow:
        account = await insert_user(
            uow, registration.email, registration.name, "customer", password, network=network, invited=False
        )
        if account is not None:
            await attempts.forgive_attempt(uow, None, [duplicate_counter])
            await mail_verification(context, uow, account)
            return build_response(uow, account)
    raise DuplicateEmail(f"{registration.email} has an account; sign in, or reset its password")


def check_password(password: str, email: str, name: str, field: str) -> None:
    fault = find_password_weakness(password, email, name)
    if fault:
        raise InvalidRequest(f"not valid: {field}", errors=[{"field": field, "rule": fault}])


async def insert_user(
    uow: UnitOfWork,
    email: str,
    name: str,
    role: UserRole,
    password: str | None,
    *,
    network: str | None = None,
    invited: bool = True,
) -> Account | None:
    """The new user, or None when the e-mail has an account. `invited`: somebody vouches for the address."""
    account = await accounts.insert_account(
        uow, new_id(), email, name, role, password, uow.database.clock(), network, verified=invited
    )
    if account is not None:
        event = UserRegistered(user_id=account.id, email=email, name=name, role=role, invited=invited)
        uow.emit(USER_REGISTERED, event, key=account.id)
    return account


async def invite_user(
    context: IdentityContext, invitation: Invitation, build_response: Callable[[UnitOfWork, Account, bool], R]
) -> R:
    """A user without a password, who claims the account by a password reset. An existing user is returned as it is:
    `build_response` gets whether it is new.
    """
    async with context.database.unit_of_work() as uow:
        account = await insert_user(uow, invitation.email, invitation.name, invitation.role, None)
        if account is not None:
            record_audit(uow, "user.invited", f"user:{account.id}", role=account.role)
            return build_response(uow, account, True)
        existing = await accounts.find_by_email(uow, invitation.email)
        assert existing is not None, "users are never deleted"
        return build_response(uow, existing, False)


async def ensure_admin(context: IdentityContext, request: EnsureAdminRequest) -> EnsureAdminResult:
    """Make the first admin, unless somebody is admin already."""
    if await accounts.has_admin(context.database):
        return EnsureAdminResult(generated=None)
    password = request.password or secrets.token_urlsafe(15)
    hashed = await context.resources.hasher.hash_password(normalize_password(password))
    async with context.database.unit_of_work() as uow:
        await accounts.lock_admins(uow)
        if await accounts.has_admin(uow):
            return EnsureAdminResult(generated=None)
        admin = await insert_user(uow, normalize_email(request.email), ADMIN_NAME, "admin", hashed)
        if admin is None:  # never promoted: whoever registered with the address first need not be the operator
            log.error("no admin was made: the e-mail is a customer's", email=request.email)
            return EnsureAdminResult(generated=None)
        record_audit(uow, "role.changed", f"user:{admin.id}", actor="operator", to="admin")
    return EnsureAdminResult(generated=None if request.password else password)
