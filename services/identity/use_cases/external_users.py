"""Which user of the shop an outside issuer's user is: made at the first sign-in, known by issuer and subject, with the
role that the groups give at each one.

An account that was here before becomes the issuer's user only where the settings allow it, and only when both sides
know that the e-mail address is that person's: otherwise whoever registers an address first, there or here, would get
the other's account.
"""

from dataclasses import dataclass, replace
from uuid import UUID

from caravan.audit import record_audit
from caravan.database import UnitOfWork
from caravan.errors import Unauthorized
from services.identity.claims import ExternalProfile
from services.identity.messages import UserRole
from services.identity.model import Account, ExternalSession
from services.identity.store import accounts, external
from services.identity.store.external import ExternalAccount
from services.identity.use_cases.accounts import store_change
from services.identity.use_cases.email_verification import mail_verification
from services.identity.use_cases.keys import IdentityContext
from services.identity.use_cases.registration import insert_user
from services.identity.use_cases.sessions import end_access

DISABLED = "the account is disabled; ask an admin of this shop"
ENDED = "the sign-in has ended; sign in again at the identity provider"
NO_GROUP = "none of your groups at the identity provider may use this shop"


@dataclass(frozen=True, slots=True)
class SignInResult:
    """`refusal`: why the user may not sign in. What it changes is stored all the same: access that was given before has
    ended.
    """

    account: Account
    refusal: str = ""


async def sign_in_external_user(
    context: IdentityContext, uow: UnitOfWork, profile: ExternalProfile, session: str = ""
) -> SignInResult:
    """`session`: one of the shop's that begins; default: that of the token itself. Raises Unauthorized for who may not
    sign in where nothing is changed by it.
    """
    found = await external.find_account(uow, profile.issuer, profile.subject)
    if found is None:
        await external.lock_first_sign_ins(uow)
        found = await external.find_account(uow, profile.issuer, profile.subject)
    if found is None:
        if profile.role is None:
            raise Unauthorized(NO_GROUP)
        account = await _find_to_link(context, uow, profile) or await _make_user(context, uow, profile)
        await external.link_account(uow, account.id, profile.issuer, profile.subject)
        found = ExternalAccount(account.id, account.role, account.disabled)
    else:
        if profile.role != found.role:
            await accounts.lock_admins(uow)
        account = await _lock_account(uow, found.id)
        found = await external.find_account(uow, profile.issuer, profile.subject)
    if found is None or found.has_ended(profile.issued_at):
        raise Unauthorized(DISABLED if account.disabled else NO_GROUP if profile.role is None else ENDED)
    signed_in_at = found.external_signed_in_at
    if signed_in_at is None or profile.issued_at >= signed_in_at:
        if profile.role is None:
            return await _refuse_without_group(uow, account, profile)
        changed = await _follow_groups(context, uow, account, profile.role)
        valid_from = profile.issued_at if changed.role != account.role else None
        await external.record_sign_in(uow, account.id, profile.issued_at, valid_from)
        account = changed
    if session or signed_in_at is None or profile.issued_at > signed_in_at:
        record_audit(
            uow,
            "login.succeeded",
            f"user:{account.id}",
            actor=f"{account.role}:{account.id}",
            session=session or ExternalSession(account.id, profile.issued_at).format_id(),
            issuer=profile.issuer,
        )
    return SignInResult(account)


async def _lock_account(uow: UnitOfWork, account_id: UUID) -> Account:
    account = await accounts.lock_account(uow, account_id)
    assert account is not None, "users are never deleted"
    return account


async def _refuse_without_group(uow: UnitOfWork, account: Account, profile: ExternalProfile) -> SignInResult:
    await end_access(uow, account.id, "groups")
    record_audit(uow, "login.failed", f"user:{account.id}", result="refused", reason=NO_GROUP, issuer=profile.issuer)
    return SignInResult(account, NO_GROUP)


async def _find_to_link(context: IdentityContext, uow: UnitOfWork, profile: ExternalProfile) -> Account | None:
    """The account that has the user's e-mail address, when it may become the issuer's user; None when nobody has it.
    Raises Unauthorized otherwise.
    """
    if profile.email is None:
        raise Unauthorized(
            f"this is your first sign-in with {profile.issuer}, and its token has no e-mail address that mails can be "
            "sent to; sign in once in the browser, or have the claim `email` added to the token"
        )
    existing = await accounts.find_by_email(uow, profile.email)
    if existing is None:
        return None
    await accounts.lock_admins(uow)
    account = await _lock_account(uow, existing.id)
    if not context.settings.oidc_link_by_email or account.external_issuer == profile.issuer:
        raise Unauthorized(f"{profile.email} has an account in this shop that is not yours at {profile.issuer}")
    if not profile.is_email_verified:
        raise Unauthorized(
            f"{profile.email} has an account in this shop; {profile.issuer} must verify the address first"
        )
    if not account.verified:
        raise Unauthorized(
            f"{profile.email} has an account in this shop whose address was not verified; reset its password by mail, "
            "then sign in again"
        )
    record_audit(uow, "user.linked", f"user:{account.id}", actor=f"user:{account.id}", issuer=profile.issuer)
    return account


async def _make_user(context: IdentityContext, uow: UnitOfWork, profile: ExternalProfile) -> Account:
    assert profile.email is not None
    assert profile.role is not None
    account = await insert_user(uow, profile.email, profile.name, profile.role, None, invited=profile.is_email_verified)
    if account is None:
        raise Unauthorized(f"{profile.email} was registered at this moment; sign in again")
    record_audit(
        uow, "user.made", f"user:{account.id}", actor=f"user:{account.id}", role=account.role, issuer=profile.issuer
    )
    if not account.verified:
        await mail_verification(context, uow, account)
    return account


async def _follow_groups(context: IdentityContext, uow: UnitOfWork, account: Account, role: UserRole) -> Account:
    """The account with the role of its groups; sessions and tokens with another one end. The last admin who can sign in
    without the issuer stays.
    """
    if not context.settings.oidc_roles or role == account.role:
        return account
    target, actor = f"user:{account.id}", f"issuer:{context.settings.oidc_issuer}"
    desired = replace(account, role=role)
    if account.is_acting_admin and not await accounts.has_admin(uow, except_id=account.id):
        record_audit(
            uow,
            "role.changed",
            target,
            actor=actor,
            result="refused",
            before=account.role,
            to=role,
            reason="last admin",
        )
        return account
    record_audit(uow, "role.changed", target, actor=actor, before=account.role, to=role)
    await end_access(uow, account.id, "role")
    return await store_change(uow, account, desired)
