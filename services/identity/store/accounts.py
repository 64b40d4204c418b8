"""Accounts: found by id or e-mail, made once per e-mail, changed under a lock."""

from datetime import datetime, timedelta
from operator import lt
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, case, exists, select, update
from sqlalchemy.dialects.postgresql import insert

from caravan.database import Database, UnitOfWork
from caravan.database import tables as sql
from caravan.database.conditions import compare_if_given
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.identity.messages import UserRole
from services.identity.model import Account
from services.identity.tables import Account as AccountTable

ADMINS_LOCK = 0x1D01
"""Advisory lock: whether there is an admin is decided by one at a time."""


class CustomerStatusRow(NamedTuple):
    user_id: UUID
    email: str
    name: str
    role: UserRole
    active: bool


ACCOUNT_COLUMNS = list_columns(AccountTable, Account)
_BY_ID = col(AccountTable.id) == bindparam("account_id")
_BY_EMAIL = col(AccountTable.email) == bindparam("email")
_NOW = bindparam("now", type_=sql.TIMESTAMPTZ)
_PASSWORD = bindparam("password", type_=sql.TEXT)
_OLD_PASSWORD = bindparam("old", type_=sql.TEXT)
_NEXT_VERSION = col(AccountTable.version) + 1

_GET = Query(select(*ACCOUNT_COLUMNS).where(_BY_ID), Account)
_FIND_BY_EMAIL = Query(select(*ACCOUNT_COLUMNS).where(_BY_EMAIL), Account)
_LOCK = Query(select(*ACCOUNT_COLUMNS).where(_BY_ID).with_for_update(key_share=True), Account)
_LIST = Query(
    select(*ACCOUNT_COLUMNS)
    .where(compare_if_given(col(AccountTable.email), "email"))
    .where(compare_if_given(col(AccountTable.id), "before", lt))
    .order_by(col(AccountTable.id).desc())
    .limit(bindparam("limit")),
    Account,
)
_INSERT = Query(
    insert(AccountTable)
    .values(
        id=bindparam("account_id"),
        email=bindparam("email"),
        name=bindparam("name"),
        role=bindparam("role"),
        password=_PASSWORD,
        password_set_at=case((_PASSWORD.is_not(None), _NOW)),
        created_at=_NOW,
        updated_at=_NOW,
        registered_from=bindparam("network"),
        verified_at=case((bindparam("verified", type_=sql.BOOLEAN), _NOW)),
    )
    .on_conflict_do_nothing(constraint="account_email")
    .returning(*ACCOUNT_COLUMNS),
    Account,
)
_UPDATE = Query(
    update(AccountTable)
    .where(_BY_ID)
    .values(
        name=bindparam("name"),
        role=bindparam("role"),
        disabled=bindparam("disabled"),
        updated_at=_NOW,
        version=_NEXT_VERSION,
    )
    .returning(*ACCOUNT_COLUMNS),
    Account,
)
_SET_VERIFIED = Query(
    update(AccountTable)
    .where(_BY_ID, col(AccountTable.verified_at).is_(None), ~col(AccountTable.disabled))
    .values(verified_at=_NOW, updated_at=_NOW, version=_NEXT_VERSION)
    .returning(*ACCOUNT_COLUMNS),
    Account,
)
_HAS_ADMIN = Query(
    select(
        exists().where(
            col(AccountTable.role) == "admin",
            ~col(AccountTable.disabled),
            col(AccountTable.password).is_not(None),
            col(AccountTable.id).is_distinct_from(bindparam("except_id")),
        )
    ),
    bool,
)
_SET_PASSWORD = Query(
    update(AccountTable)
    .where(_BY_ID, compare_if_given(col(AccountTable.password), "old"))
    .values(password=_PASSWORD, password_set_at=_NOW)
)
_REPLACE_PASSWORD_HASH = Query(
    update(AccountTable).where(_BY_ID, col(AccountTable.password) == _OLD_PASSWORD).values(password=_PASSWORD)
)
_GET_CUSTOMER_STATUS = Query(
    select(
        *list_columns(AccountTable, CustomerStatusRow, user_id=col(AccountTable.id), active=~col(AccountTable.disabled))
    ).where(_BY_ID),
    CustomerStatusRow,
)
_NEXT_MAIL_AT = (
    "verification_mailed_at + least($3::interval * power(2, least(greatest(verification_mails - 1, 0), 20)),"
    " $4::interval)"
)


async def get_account(database: Database, account_id: UUID) -> Account | None:
    return await _GET.fetch_one(database, account_id=account_id)


async def find_by_email(database: Database | UnitOfWork, email: str) -> Account | None:
    return await _FIND_BY_EMAIL.fetch_one(database, email=email)


async def lock_account(uow: UnitOfWork, account_id: UUID) -> Account | None:
    return await _LOCK.fetch_one(uow, account_id=account_id)


async def list_accounts(database: Database, email: str | None, before: UUID | None, limit: int) -> list[Account]:
    """Newest first."""
    return await _LIST.fetch_all(database, email=email, before=before, limit=limit)


async def insert_account(
    uow: UnitOfWork,
    account_id: UUID,
    email: str,
    name: str,
    role: UserRole,
    password: str | None,
    now: datetime,
    network: str | None,
    *,
    verified: bool,
) -> Account | None:
    """The new account, or None when the e-mail has one. `network`: from where its owner registered it."""
    return await _INSERT.fetch_one(
        uow,
        account_id=account_id,
        email=email,
        name=name,
        role=role,
        password=password,
        now=now,
        network=network,
        verified=verified,
    )


async def update_account(
    uow: UnitOfWork, account_id: UUID, name: str, role: UserRole, disabled: bool, now: datetime
) -> Account:
    """Store what a locked account has become; its version rises."""
    account = await _UPDATE.fetch_one(uow, account_id=account_id, name=name, role=role, disabled=disabled, now=now)
    assert account is not None
    return account


async def set_verified(uow: UnitOfWork, account_id: UUID, now: datetime) -> Account | None:
    """The address is the user's; None when that was known, or the user is disabled."""
    return await _SET_VERIFIED.fetch_one(uow, account_id=account_id, now=now)


async def claim_verification_mail(
    uow: UnitOfWork, account_id: UUID, now: datetime, pause: timedelta, longest: timedelta
) -> datetime | None:
    """None when one may be mailed now, and it is noted; else when the next one may. `pause` is that after the first
    mail, and doubles with each up to `longest`.
    """
    next_at: datetime | None = await uow.fetchval(
        f"WITH before AS (SELECT id, {_NEXT_MAIL_AT} AS due FROM account WHERE id = $1 FOR UPDATE),"
        " recorded AS (UPDATE account a SET verification_mailed_at = $2, verification_mails = verification_mails + 1"
        " FROM before WHERE a.id = before.id AND (due <= $2) IS NOT FALSE)"
        " SELECT due FROM before WHERE due > $2",
        account_id,
        now,
        pause,
        longest,
    )
    return next_at


async def lock_admins(uow: UnitOfWork) -> None:
    await uow.execute("SELECT pg_advisory_xact_lock($1)", ADMINS_LOCK)


async def has_admin(uow: Database | UnitOfWork, except_id: UUID | None = None) -> bool:
    """Whether somebody (else) can act as admin."""
    return bool(await _HAS_ADMIN.fetch_value(uow, except_id=except_id))


async def set_password(
    uow: UnitOfWork, account_id: UUID, password: str, now: datetime, *, old: str | None = None
) -> bool:
    """Store the hash of a password that the user chose; False when it should replace `old` and another request was
    first.
    """
    return await _SET_PASSWORD.execute(uow, account_id=account_id, password=password, now=now, old=old) == 1


async def replace_password_hash(database: Database, account_id: UUID, old: str, new: str) -> None:
    """The same password under today's parameters."""
    await _REPLACE_PASSWORD_HASH.execute(database, account_id=account_id, old=old, password=new)


async def get_customer_status(database: Database, account_id: UUID) -> CustomerStatusRow | None:
    return await _GET_CUSTOMER_STATUS.fetch_one(database, account_id=account_id)
