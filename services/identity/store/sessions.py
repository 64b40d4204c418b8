"""Sessions: a row per login, with the generation of its refresh token and whether it has ended."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, bindparam, delete, exists, or_, select, update

from caravan.database import Database, UnitOfWork
from caravan.database import tables as sql
from caravan.database.query import Query
from caravan.database.tables import col
from services.identity.messages import UserRole
from services.identity.model import Account
from services.identity.tables import Account as AccountTable
from services.identity.tables import Session


class SessionUser(NamedTuple):
    id: UUID
    role: UserRole


class RevokedSession(NamedTuple):
    user_id: UUID
    id_token: str | None


class KnownNetwork(NamedTuple):
    is_known: bool
    user_id: UUID | None


_NOW = bindparam("now", type_=sql.TIMESTAMPTZ)
_SESSION = bindparam("session", type_=sql.UUID)
_NETWORK = bindparam("network", type_=sql.TEXT)
_GENERATION = bindparam("generation", type_=sql.INTEGER)
_BY_ID = col(Session.id) == _SESSION
_IS_OPEN = and_(col(Session.revoked_at).is_(None), col(Session.expires_at) > _NOW)

_CHECK_KNOWN_NETWORK = Query(
    select(
        or_(
            col(AccountTable.registered_from).is_not_distinct_from(_NETWORK),
            exists().where(col(Session.account_id) == col(AccountTable.id), col(Session.network) == _NETWORK),
        ),
        col(AccountTable.id),
    ).where(col(AccountTable.email) == bindparam("email")),
    KnownNetwork,
)
_ADVANCE_GENERATION = Query(
    update(Session)
    .where(_BY_ID, col(Session.generation) == _GENERATION, _IS_OPEN)
    .where(col(AccountTable.id) == col(Session.account_id), ~col(AccountTable.disabled))
    .values(generation=col(Session.generation) + 1, used_at=_NOW)
    .returning(col(AccountTable.id), col(AccountTable.role)),
    SessionUser,
)
_REVOKE_REUSED = Query(
    update(Session)
    .where(_BY_ID, col(Session.generation) != _GENERATION, _IS_OPEN)
    .values(revoked_at=_NOW, revoked_because="reuse")
    .returning(col(Session.account_id)),
    UUID,
)
_REVOKE = Query(
    update(Session)
    .where(_BY_ID, col(Session.revoked_at).is_(None))
    .values(revoked_at=_NOW, revoked_because="revoked")
    .returning(col(Session.account_id), col(Session.id_token)),
    RevokedSession,
)
_REVOKE_ALL = Query(
    update(Session)
    .where(col(Session.account_id) == bindparam("account_id"), col(Session.revoked_at).is_(None))
    .where(col(Session.id).is_distinct_from(bindparam("except_session")))
    .values(revoked_at=_NOW, revoked_because=bindparam("reason"))
)
_IS_ACTIVE = Query(
    select(
        and_(
            exists().where(col(AccountTable.id) == bindparam("subject"), ~col(AccountTable.disabled)),
            or_(_SESSION.is_(None), exists().where(_BY_ID, _IS_OPEN)),
        )
    ),
    bool,
)
_PURGE_EXPIRED = Query(delete(Session).where(col(Session.expires_at) < bindparam("before")))


async def insert_session(
    uow: UnitOfWork,
    session: UUID,
    account: Account,
    network: str,
    now: datetime,
    expires_at: datetime,
    id_token: str | None = None,
) -> bool:
    """Open a session, unless the user was disabled or the password changed since it was verified: that would have ended
    this session, too. `id_token`: sealed, of an outside issuer at which the session began.
    """
    return (
        await uow.execute(
            "INSERT INTO session (id, account_id, network, created_at, used_at, expires_at, id_token)"
            " SELECT $1, id, $4, $5, $5, $6, $7 FROM (SELECT id FROM account WHERE id = $2"
            " AND password_set_at IS NOT DISTINCT FROM $3 AND NOT disabled FOR SHARE) AS verified",
            session,
            account.id,
            account.password_set_at,
            network,
            now,
            expires_at,
            id_token,
        )
        == 1
    )


async def check_known_network(database: Database, email: str, network: str) -> KnownNetwork:
    """Whether the user registered or had a session from there, so that who tries from there is more likely to be the
    user; and whose the e-mail is.
    """
    return await _CHECK_KNOWN_NETWORK.fetch_one(database, email=email, network=network) or KnownNetwork(False, None)


async def advance_generation(database: Database, session: UUID, generation: int, now: datetime) -> SessionUser | None:
    """Take a refresh token of the present generation, once: the id and role of its user. None when it can't be
    taken.
    """
    return await _ADVANCE_GENERATION.fetch_one(database, session=session, generation=generation, now=now)


async def revoke_reused_session(uow: UnitOfWork, session: UUID, generation: int, now: datetime) -> UUID | None:
    """End a session because a token of another generation than the present one came; its user's id, or None when that
    isn't so.
    """
    return await _REVOKE_REUSED.fetch_value(uow, session=session, generation=generation, now=now)


async def revoke_session(uow: UnitOfWork, session: UUID, now: datetime) -> RevokedSession | None:
    """End one session; None when it had ended."""
    return await _REVOKE.fetch_one(uow, session=session, now=now)


async def revoke_sessions(
    uow: UnitOfWork, account_id: UUID, reason: str, now: datetime, *, except_session: UUID | None = None
) -> int:
    """End all sessions of a user, but one."""
    return await _REVOKE_ALL.execute(uow, account_id=account_id, reason=reason, now=now, except_session=except_session)


async def is_active(database: Database, session: UUID | None, subject: UUID, now: datetime) -> bool:
    """Whether the session (None: a client's, which does not end) is open and the user may act. They differ after a
    token exchange.
    """
    return bool(await _IS_ACTIVE.fetch_value(database, session=session, subject=subject, now=now))


async def purge_expired(database: Database, before: datetime) -> None:
    await _PURGE_EXPIRED.execute(database, before=before)
