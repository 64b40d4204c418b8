"""Users as they are and as they change: by themselves, by an admin, and for other services."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from caravan.audit import audit
from caravan.database import UnitOfWork
from caravan.errors import NotFound
from services.identity.client import Standing, StandingRequest
from services.identity.messages import USER_UPDATED, UserUpdated
from services.identity.model import Account, LastAdmin
from services.identity.schemas import ProfilePatch, UserPatch
from services.identity.store import accounts
from services.identity.use_cases.keys import Identity
from services.identity.use_cases.sessions import end_access

CheckVersion = Callable[[int], None]
"""Raises StaleEdit when the caller has seen another version."""


async def account_of(context: Identity, user_id: UUID) -> Account:
    account = await accounts.get(context.database, user_id)
    if account is None:
        raise no_user(user_id)
    return account


def no_user(user_id: UUID) -> NotFound:
    return NotFound(f"no user {user_id}")


async def change_profile(context: Identity, user_id: UUID, patch: ProfilePatch, check: CheckVersion) -> Account:
    async with context.database.work() as work:
        account = await _locked(work, user_id, check)
        return await _store(work, account, replace(account, name=patch.name or account.name))


async def administer(context: Identity, user_id: UUID, patch: UserPatch, check: CheckVersion) -> Account:
    """Change role or standing. Either ends the user's sessions and links: no token with the old role stays good for long."""
    async with context.database.work() as work:
        await accounts.lock_admins(work)
        account = await _locked(work, user_id, check)
        wanted = replace(
            account,
            role=patch.role or account.role,
            disabled=account.disabled if patch.disabled is None else patch.disabled,
        )
        if account.acting_admin and not wanted.acting_admin and not await accounts.admin_exists(work, but=user_id):
            raise LastAdmin(f"user {user_id} is the only admin; make another one first")
        changed = await _store(work, account, wanted)
        target = f"user:{user_id}"
        if changed.role != account.role:
            audit(work, "role.changed", target, before=account.role, to=changed.role)
            await end_access(work, user_id, "role")
        if changed.disabled != account.disabled:
            audit(work, "user.disabled" if changed.disabled else "user.enabled", target)
            await end_access(work, user_id, "disabled")
        return changed


async def _locked(work: UnitOfWork, user_id: UUID, check: CheckVersion) -> Account:
    account = await accounts.lock(work, user_id)
    if account is None:
        raise no_user(user_id)
    check(account.version)
    return account


async def _store(work: UnitOfWork, account: Account, wanted: Account) -> Account:
    """Nothing is stored or announced when nothing changes."""
    if wanted == account:
        return account
    changed = await accounts.change(work, account.id, wanted.name, wanted.role, wanted.disabled, work.database.clock())
    announce_change(work, changed)
    return changed


def announce_change(work: UnitOfWork, changed: Account) -> None:
    event = UserUpdated(
        user_id=changed.id,
        email=changed.email,
        name=changed.name,
        role=changed.role,
        disabled=changed.disabled,
        account_version=changed.version,
        verified=changed.verified,
    )
    work.emit(USER_UPDATED, event, key=changed.id)


async def standing(context: Identity, request: StandingRequest) -> Standing:
    row = await accounts.standing(context.database, request.user_id)
    if row is None:
        raise no_user(request.user_id)
    return Standing(**row)
