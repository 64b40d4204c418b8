"""Read and change accounts: by their users, by admins, and for other services."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from caravan.audit import record_audit
from caravan.database import UnitOfWork
from caravan.errors import NotFound
from services.identity.client import CustomerStatus, CustomerStatusRequest
from services.identity.messages import USER_UPDATED, UserUpdated
from services.identity.model import Account, ExternalRoleError, LastAdminError
from services.identity.schemas import ProfilePatch, UserPatch
from services.identity.store import accounts
from services.identity.use_cases.keys import IdentityContext
from services.identity.use_cases.sessions import end_access

CheckVersion = Callable[[int], None]
"""Raises StaleEdit when the caller has seen another version."""


async def get_account(context: IdentityContext, user_id: UUID) -> Account:
    account = await accounts.get_account(context.database, user_id)
    if account is None:
        raise build_not_found(user_id)
    return account


def build_not_found(user_id: UUID) -> NotFound:
    return NotFound(f"no user {user_id}")


async def change_profile(context: IdentityContext, user_id: UUID, patch: ProfilePatch, check: CheckVersion) -> Account:
    async with context.database.unit_of_work() as uow:
        account = await _lock_account(uow, user_id, check)
        return await store_change(uow, account, replace(account, name=patch.name or account.name))


async def administer_user(context: IdentityContext, user_id: UUID, patch: UserPatch, check: CheckVersion) -> Account:
    """Change role or standing. Either ends the user's sessions and links: no token with the old role stays good for
    long.
    """
    async with context.database.unit_of_work() as uow:
        await accounts.lock_admins(uow)
        account = await _lock_account(uow, user_id, check)
        desired = replace(
            account,
            role=patch.role or account.role,
            disabled=account.disabled if patch.disabled is None else patch.disabled,
        )
        if (
            account.is_acting_admin
            and not desired.is_acting_admin
            and not await accounts.has_admin(uow, except_id=user_id)
        ):
            raise LastAdminError(f"user {user_id} is the only admin; make another one first")
        if desired.role != account.role and _has_role_of_groups(context, account):
            raise ExternalRoleError(
                f"user {user_id} gets the role from the groups at {account.external_issuer}; change it there"
            )
        changed = await store_change(uow, account, desired)
        target = f"user:{user_id}"
        if changed.role != account.role:
            record_audit(uow, "role.changed", target, before=account.role, to=changed.role)
            await end_access(uow, user_id, "role")
        if changed.disabled != account.disabled:
            record_audit(uow, "user.disabled" if changed.disabled else "user.enabled", target)
            await end_access(uow, user_id, "disabled")
        return changed


def _has_role_of_groups(context: IdentityContext, account: Account) -> bool:
    return bool(context.settings.oidc_roles) and account.external_issuer == context.settings.oidc_issuer


async def _lock_account(uow: UnitOfWork, user_id: UUID, check: CheckVersion) -> Account:
    account = await accounts.lock_account(uow, user_id)
    if account is None:
        raise build_not_found(user_id)
    check(account.version)
    return account


async def store_change(uow: UnitOfWork, account: Account, desired: Account) -> Account:
    """Nothing is stored or announced when nothing changes."""
    if desired == account:
        return account
    changed = await accounts.update_account(
        uow, account.id, desired.name, desired.role, desired.disabled, uow.database.clock()
    )
    announce_change(uow, changed)
    return changed


def announce_change(uow: UnitOfWork, changed: Account) -> None:
    event = UserUpdated(
        user_id=changed.id,
        email=changed.email,
        name=changed.name,
        role=changed.role,
        disabled=changed.disabled,
        account_version=changed.version,
        verified=changed.verified,
    )
    uow.emit(USER_UPDATED, event, key=changed.id)


async def get_customer_status(context: IdentityContext, request: CustomerStatusRequest) -> CustomerStatus:
    row = await accounts.get_customer_status(context.database, request.user_id)
    if row is None:
        raise build_not_found(request.user_id)
    return CustomerStatus(**row._asdict())
