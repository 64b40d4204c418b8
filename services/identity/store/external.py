"""Accounts of an outside issuer's users: found by who they are there, and from when on its tokens are good."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from caravan.database import Database, UnitOfWork
from caravan.database import tables as sql
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.identity.messages import UserRole
from services.identity.tables import Account, UsedState

FIRST_SIGN_INS_LOCK = 0x1D03
"""Advisory lock: of several first sign-ins of one user at once, one makes the account."""


class ExternalAccount(NamedTuple):
    id: UUID
    role: UserRole
    disabled: bool
    external_signed_in_at: datetime | None = None
    external_valid_from: datetime | None = None

    def has_ended(self, issued_at: datetime) -> bool:
        """Whether tokens that were issued then are good no more."""
        return self.disabled or (self.external_valid_from is not None and issued_at < self.external_valid_from)


_BY_ID = col(Account.id) == bindparam("account_id")
_ISSUED_AT = bindparam("issued_at", type_=sql.TIMESTAMPTZ)
_VALID_FROM = bindparam("valid_from", type_=sql.TIMESTAMPTZ)
_FIND = Query(
    select(*list_columns(Account, ExternalAccount)).where(
        col(Account.external_issuer) == bindparam("issuer"), col(Account.external_subject) == bindparam("subject")
    ),
    ExternalAccount,
)
_LINK = Query(
    update(Account)
    .where(_BY_ID)
    .values(
        external_issuer=bindparam("issuer"),
        external_subject=bindparam("subject"),
        external_signed_in_at=None,
        external_valid_from=None,
    )
)
_UNLINK = Query(
    update(Account)
    .where(_BY_ID, col(Account.external_issuer).is_not(None))
    .values(external_issuer=None, external_subject=None, external_signed_in_at=None, external_valid_from=None)
)
_RECORD_SIGN_IN = Query(
    update(Account)
    .where(_BY_ID)
    .values(
        external_signed_in_at=_ISSUED_AT, external_valid_from=func.coalesce(_VALID_FROM, Account.external_valid_from)
    )
)
_END_TOKENS = Query(
    update(Account)
    .where(_BY_ID, col(Account.external_issuer).is_not(None))
    .values(external_valid_from=bindparam("now", type_=sql.TIMESTAMPTZ))
)
_USE_STATE = Query(insert(UsedState).on_conflict_do_nothing())
_PURGE_STATES = Query(delete(UsedState).where(col(UsedState.expires_at) < bindparam("before")))
_IS_ACTIVE = Query(
    select(
        exists()
        .where(_BY_ID, ~col(Account.disabled), col(Account.external_issuer).is_not(None))
        .where(or_(col(Account.external_valid_from).is_(None), col(Account.external_valid_from) <= _ISSUED_AT))
    ),
    bool,
)


async def find_account(uow: Database | UnitOfWork, issuer: str, subject: str) -> ExternalAccount | None:
    return await _FIND.fetch_one(uow, issuer=issuer, subject=subject)


async def lock_first_sign_ins(uow: UnitOfWork) -> None:
    await uow.execute("SELECT pg_advisory_xact_lock($1)", FIRST_SIGN_INS_LOCK)


async def link_account(uow: UnitOfWork, account_id: UUID, issuer: str, subject: str) -> None:
    """From now on the issuer's user is this one."""
    await _LINK.execute(uow, account_id=account_id, issuer=issuer, subject=subject)


async def unlink_account(uow: UnitOfWork, account_id: UUID) -> bool:
    """The user is the issuer's no more; whether it was."""
    return await _UNLINK.execute(uow, account_id=account_id) == 1


async def record_sign_in(
    uow: UnitOfWork, account_id: UUID, issued_at: datetime, valid_from: datetime | None = None
) -> None:
    """`issued_at`: when the newest token that was seen was issued. `valid_from`: earlier ones are good no more."""
    await _RECORD_SIGN_IN.execute(uow, account_id=account_id, issued_at=issued_at, valid_from=valid_from)


async def end_tokens(uow: UnitOfWork, account_id: UUID, now: datetime) -> None:
    """Tokens that the issuer issued before are good no more."""
    await _END_TOKENS.execute(uow, account_id=account_id, now=now)


async def is_active(database: Database, account_id: UUID, issued_at: datetime) -> bool:
    """Whether tokens of this user that the issuer issued then are still good."""
    return bool(await _IS_ACTIVE.fetch_value(database, account_id=account_id, issued_at=issued_at))


async def use_state(database: Database, fingerprint: bytes, expires_at: datetime) -> bool:
    """Finish a sign-in; False when it was finished before."""
    return await _USE_STATE.execute(database, fingerprint=fingerprint, expires_at=expires_at) == 1


async def purge_expired(database: Database, before: datetime) -> None:
    await _PURGE_STATES.execute(database, before=before)
