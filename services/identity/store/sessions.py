"""Sessions: a row per login, with the generation of its refresh token and whether it has ended."""

from datetime import datetime
from uuid import UUID

import asyncpg

from caravan.database import Database, UnitOfWork
from services.identity.model import Account


async def insert_session(
    uow: UnitOfWork, session: UUID, account: Account, network: str, now: datetime, expires_at: datetime
) -> bool:
    """Open a session, unless the user was disabled or the password changed since it was verified: that would have ended
    this session, too.
    """
    return (
        await uow.execute(
            "INSERT INTO session (id, account_id, network, created_at, used_at, expires_at) SELECT $1, id, $4, $5,"
            " $5, $6 FROM"
            " (SELECT id FROM account WHERE id = $2 AND password_set_at = $3 AND NOT disabled FOR SHARE) AS verified",
            session,
            account.id,
            account.password_set_at,
            network,
            now,
            expires_at,
        )
        == 1
    )


async def check_known_network(database: Database, email: str, network: str) -> tuple[bool, UUID | None]:
    """Whether the user registered or had a session from there, so that who tries from there is more likely to be the
    user; and whose the e-mail is.
    """
    row = await database.fetchrow(
        "SELECT a.id, a.registered_from IS NOT DISTINCT"
        " FROM $2 OR EXISTS (SELECT FROM session s WHERE s.account_id = a.id AND s.network = $2) AS is_known"
        " FROM account a WHERE a.email = $1",
        email,
        network,
    )
    return (row["is_known"], row["id"]) if row else (False, None)


async def advance_generation(
    database: Database, session: UUID, generation: int, now: datetime
) -> asyncpg.Record | None:
    """Take a refresh token of the present generation, once: the id and role of its user. None when it can't be
    taken.
    """
    return await database.fetchrow(
        "UPDATE session s SET generation = generation + 1, used_at = $3 FROM account a"
        " WHERE s.id = $1 AND s.generation = $2"
        " AND s.revoked_at IS NULL AND s.expires_at > $3 AND a.id = s.account_id AND NOT a.disabled"
        " RETURNING a.id, a.role",
        session,
        generation,
        now,
    )


async def revoke_reused_session(uow: UnitOfWork, session: UUID, generation: int, now: datetime) -> UUID | None:
    """End a session because a token of another generation than the present one came; its user's id, or None when that
    isn't so.
    """
    user_id: UUID | None = await uow.fetchval(
        "UPDATE session SET revoked_at = $3, revoked_because = 'reuse'"
        " WHERE id = $1 AND generation <> $2 AND revoked_at IS NULL"
        " AND expires_at > $3 RETURNING account_id",
        session,
        generation,
        now,
    )
    return user_id


async def revoke_session(uow: UnitOfWork, session: UUID, now: datetime) -> UUID | None:
    """End one session; its user's id, or None when it had ended."""
    user_id: UUID | None = await uow.fetchval(
        "UPDATE session SET revoked_at = $2, revoked_because = 'revoked'"
        " WHERE id = $1 AND revoked_at IS NULL RETURNING account_id",
        session,
        now,
    )
    return user_id


async def revoke_sessions(
    uow: UnitOfWork, account_id: UUID, reason: str, now: datetime, *, except_session: UUID | None = None
) -> int:
    """End all sessions of a user, but one."""
    return await uow.execute(
        "UPDATE session SET revoked_at = $3, revoked_because = $2"
        " WHERE account_id = $1 AND revoked_at IS NULL AND id IS DISTINCT FROM $4",
        account_id,
        reason,
        now,
        except_session,
    )


async def is_active(database: Database, session: UUID | None, subject: UUID, now: datetime) -> bool:
    """Whether the session (None: a client's, which does not end) is open and the user may act. They differ after a
    token exchange.
    """
    is_open = await database.fetchval(
        "SELECT EXISTS (SELECT 1 FROM account WHERE id = $2 AND NOT disabled) AND ($1::uuid IS NULL"
        " OR EXISTS (SELECT 1 FROM session WHERE id = $1 AND revoked_at IS NULL AND expires_at > $3))",
        session,
        subject,
        now,
    )
    return bool(is_open)


async def purge_expired(database: Database, before: datetime) -> None:
    await database.fetch("DELETE FROM session WHERE expires_at < $1", before)
