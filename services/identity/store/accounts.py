"""Accounts: found by id or e-mail, made once per e-mail, changed under a lock."""

from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from caravan.database import Database, UnitOfWork
from services.identity.messages import UserRole
from services.identity.model import Account

COLUMNS = "id, email, name, role, disabled, version, created_at, updated_at, password, password_set_at, verified_at"
ADMINS_LOCK = 0x1D01
"""Advisory lock: whether there is an admin is decided by one at a time."""


def _build_account(row: asyncpg.Record | None) -> Account | None:
    return Account(*row) if row else None


async def get_account(database: Database, account_id: UUID) -> Account | None:
    return _build_account(await database.fetchrow(f"SELECT {COLUMNS} FROM account WHERE id = $1", account_id))


async def find_by_email(database: Database | UnitOfWork, email: str) -> Account | None:
    return _build_account(await database.fetchrow(f"SELECT {COLUMNS} FROM account WHERE email = $1", email))


async def lock_account(uow: UnitOfWork, account_id: UUID) -> Account | None:
    return _build_account(
        await uow.fetchrow(f"SELECT {COLUMNS} FROM account WHERE id = $1 FOR NO KEY UPDATE", account_id)
    )


async def list_accounts(database: Database, email: str | None, before: UUID | None, limit: int) -> list[Account]:
    """Newest first."""
    rows = await database.fetch(
        f"SELECT {COLUMNS} FROM account WHERE ($1::text IS NULL OR email = $1)"
        " AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        email,
        before,
        limit,
    )
    return [Account(*row) for row in rows]


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
    row = await uow.fetchrow(
        "INSERT INTO account (id, email, name, role, password, password_set_at, created_at, updated_at,"
        " registered_from, verified_at)"
        " VALUES ($1, $2, $3, $4, $5, CASE WHEN $5::text IS NOT NULL THEN $6::timestamptz END, $6, $6, $7, CASE"
        " WHEN $8 THEN $6::timestamptz END)"
        f" ON CONFLICT ON CONSTRAINT account_email DO NOTHING RETURNING {COLUMNS}",
        account_id,
        email,
        name,
        role,
        password,
        now,
        network,
        verified,
    )
    return _build_account(row)


async def update_account(
    uow: UnitOfWork, account_id: UUID, name: str, role: UserRole, disabled: bool, now: datetime
) -> Account:
    """Store what a locked account has become; its version rises."""
    row = await uow.fetchrow(
        "UPDATE account SET name = $2, role = $3, disabled = $4, updated_at = $5, version = version + 1"
        f" WHERE id = $1 RETURNING {COLUMNS}",
        account_id,
        name,
        role,
        disabled,
        now,
    )
    assert row is not None
    return Account(*row)


async def set_verified(uow: UnitOfWork, account_id: UUID, now: datetime) -> Account | None:
    """The address is the user's; None when that was known, or the user is disabled."""
    return _build_account(
        await uow.fetchrow(
            "UPDATE account SET verified_at = $2, updated_at = $2, version = version + 1"
            " WHERE id = $1 AND verified_at IS NULL AND NOT disabled"
            f" RETURNING {COLUMNS}",
            account_id,
            now,
        )
    )


async def claim_verification_mail(
    uow: UnitOfWork, account_id: UUID, now: datetime, pause: timedelta, longest: timedelta
) -> datetime | None:
    """None when one may be mailed now, and it is noted; else when the next one may. `pause` is that after the first
    mail, and doubles with each up to `longest`.
    """
    next_at_sql = (
        "verification_mailed_at + least($3::interval * power(2, least(greatest(verification_mails - 1, 0), 20)),"
        " $4::interval)"
    )
    next_at: datetime | None = await uow.fetchval(
        f"WITH before AS (SELECT id, {next_at_sql} AS due FROM account WHERE id = $1 FOR UPDATE),"
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
    exists = await uow.fetchval(
        "SELECT EXISTS (SELECT 1 FROM account WHERE role = 'admin' AND NOT disabled AND password IS NOT NULL"
        " AND id IS DISTINCT FROM $1)",
        except_id,
    )
    return bool(exists)


async def set_password(
    uow: UnitOfWork, account_id: UUID, password: str, now: datetime, *, old: str | None = None
) -> bool:
    """Store the hash of a password that the user chose; False when it should replace `old` and another request was
    first.
    """
    return (
        await uow.execute(
            "UPDATE account SET password = $2, password_set_at = $3"
            " WHERE id = $1 AND ($4::text IS NULL OR password = $4)",
            account_id,
            password,
            now,
            old,
        )
        == 1
    )


async def replace_password_hash(database: Database, account_id: UUID, old: str, new: str) -> None:
    """The same password under today's parameters."""
    await database.fetch("UPDATE account SET password = $3 WHERE id = $1 AND password = $2", account_id, old, new)


async def get_customer_status(database: Database, account_id: UUID) -> asyncpg.Record | None:
    return await database.fetchrow(
        "SELECT id AS user_id, email, name, role, NOT disabled AS active FROM account WHERE id = $1", account_id
    )
