"""Password resets: requests whose mail is not yet sent, and the fingerprints of mailed links."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import and_, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from caravan.database import Database, UnitOfWork
from caravan.database import tables as sql
from caravan.database.conditions import is_among
from caravan.database.query import Query
from caravan.database.tables import col
from services.identity.model import Account
from services.identity.store.accounts import ACCOUNT_COLUMNS
from services.identity.tables import Account as AccountTable
from services.identity.tables import ResetLink, ResetRequest

_NOW = bindparam("now", type_=sql.TIMESTAMPTZ)
_BY_FINGERPRINT = col(ResetLink.fingerprint) == bindparam("fingerprint")
_IS_USABLE = and_(col(ResetLink.used_at).is_(None), col(ResetLink.expires_at) > _NOW)

_INSERT_REQUEST = Query(insert(ResetRequest).on_conflict_do_nothing())
_LOCK_ENTITLED = Query(
    select(*ACCOUNT_COLUMNS)
    .where(is_among(col(AccountTable.email), "emails"), ~col(AccountTable.disabled))
    .where(
        or_(
            col(AccountTable.external_issuer).is_(None),
            col(AccountTable.password).is_not(None),
            col(AccountTable.verified_at).is_(None),
        )
    )
    .where(
        select(
            and_(
                func.count().filter(col(ResetLink.created_at) > bindparam("hour_ago")) < bindparam("per_hour"),
                func.count() < bindparam("per_day"),
            )
        )
        .where(col(ResetLink.account_id) == col(AccountTable.id), col(ResetLink.created_at) > bindparam("day_ago"))
        .scalar_subquery()
    )
    .order_by(col(AccountTable.id))
    .with_for_update(read=True),
    Account,
)
_INSERT_LINK = Query(
    insert(ResetLink).values(
        fingerprint=bindparam("fingerprint"),
        account_id=bindparam("account_id"),
        created_at=bindparam("created_at"),
        expires_at=bindparam("expires_at"),
    )
)
_FIND_LINK_OWNER = Query(
    select(*ACCOUNT_COLUMNS)
    .where(~col(AccountTable.disabled))
    .where(
        col(AccountTable.id) == select(col(ResetLink.account_id)).where(_BY_FINGERPRINT, _IS_USABLE).scalar_subquery()
    ),
    Account,
)
_USE_LINK = Query(update(ResetLink).where(_BY_FINGERPRINT, _IS_USABLE).values(used_at=_NOW))
_END_LINKS = Query(
    update(ResetLink)
    .where(col(ResetLink.account_id) == bindparam("account_id"), col(ResetLink.used_at).is_(None))
    .values(used_at=_NOW)
)
_PURGE_EXPIRED = Query(delete(ResetLink).where(col(ResetLink.expires_at) < bindparam("before")))


async def insert_request(database: Database, email: str, now: datetime) -> None:
    """The same one statement for every address, known or not."""
    await _INSERT_REQUEST.execute(database, email=email, requested_at=now)


async def claim_requests(uow: UnitOfWork, limit: int) -> list[str]:
    rows = await uow.fetch(
        "DELETE FROM reset_request WHERE email IN (SELECT email FROM reset_request ORDER BY requested_at"
        " LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING email",
        limit,
    )
    return [row[0] for row in rows]


async def lock_entitled_accounts(
    uow: UnitOfWork, emails: Sequence[str], per_hour: int, per_day: int, now: datetime
) -> list[Account]:
    """The users of these addresses who may have a link now: not disabled, and with fewer links than that within an hour
    and a day. Who signs in with an outside issuer alone gets none: a password would outlast the access there.

    Their rows are locked: whoever changes the password at this moment waits, and then ends the links that are made
    here.
    """
    return await _LOCK_ENTITLED.fetch_all(
        uow,
        emails=list(emails),
        per_hour=per_hour,
        per_day=per_day,
        hour_ago=now - timedelta(hours=1),
        day_ago=now - timedelta(days=1),
    )


async def insert_link(uow: UnitOfWork, fingerprint: bytes, account_id: UUID, now: datetime, life: timedelta) -> None:
    await _INSERT_LINK.execute(
        uow, fingerprint=fingerprint, account_id=account_id, created_at=now, expires_at=now + life
    )


async def find_link_owner(database: Database, fingerprint: bytes, now: datetime) -> Account | None:
    """Whose link it is, if it is still good."""
    return await _FIND_LINK_OWNER.fetch_one(database, fingerprint=fingerprint, now=now)


async def use_link(uow: UnitOfWork, fingerprint: bytes, now: datetime) -> bool:
    """Use up a link; False when another request was first, or the link was ended."""
    return await _USE_LINK.execute(uow, fingerprint=fingerprint, now=now) == 1


async def end_links(uow: UnitOfWork, account_id: UUID, now: datetime) -> None:
    """No link of the user that was mailed before works any more."""
    await _END_LINKS.execute(uow, account_id=account_id, now=now)


async def purge_expired(database: Database, before: datetime) -> None:
    await _PURGE_EXPIRED.execute(database, before=before)
