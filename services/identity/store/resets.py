"""Password resets: requests whose mail is not yet sent, and the fingerprints of mailed links."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from caravan.database import Database, UnitOfWork
from services.identity.model import Account
from services.identity.store.accounts import COLUMNS


async def insert_request(database: Database, email: str, now: datetime) -> None:
    """The same one statement for every address, known or not."""
    await database.fetch(
        "INSERT INTO reset_request (email, requested_at) VALUES ($1, $2) ON CONFLICT DO NOTHING", email, now
    )


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
    and a day.

    Their rows are locked: whoever changes the password at this moment waits, and then ends the links that are made
    here.
    """
    rows = await uow.fetch(
        f"SELECT {COLUMNS} FROM account a WHERE email = ANY($1) AND NOT disabled"
        " AND (SELECT count(*) FILTER (WHERE l.created_at > $4) < $2 AND count(*) < $3"
        " FROM reset_link l WHERE l.account_id = a.id AND l.created_at > $5) ORDER BY id FOR SHARE",
        list(emails),
        per_hour,
        per_day,
        now - timedelta(hours=1),
        now - timedelta(days=1),
    )
    return [Account(*row) for row in rows]


async def insert_link(uow: UnitOfWork, fingerprint: bytes, account_id: UUID, now: datetime, life: timedelta) -> None:
    await uow.execute(
        "INSERT INTO reset_link (fingerprint, account_id, created_at, expires_at) VALUES ($1, $2, $3, $4)",
        fingerprint,
        account_id,
        now,
        now + life,
    )


async def find_link_owner(database: Database, fingerprint: bytes, now: datetime) -> Account | None:
    """Whose link it is, if it is still good."""
    row = await database.fetchrow(
        f"SELECT {COLUMNS} FROM account WHERE NOT disabled AND id ="
        " (SELECT account_id FROM reset_link WHERE fingerprint = $1 AND used_at IS NULL AND expires_at > $2)",
        fingerprint,
        now,
    )
    return Account(*row) if row else None


async def use_link(uow: UnitOfWork, fingerprint: bytes, now: datetime) -> bool:
    """Use up a link; False when another request was first, or the link was ended."""
    used_count = await uow.execute(
        "UPDATE reset_link SET used_at = $2 WHERE fingerprint = $1 AND used_at IS NULL AND expires_at > $2",
        fingerprint,
        now,
    )
    return used_count == 1


async def end_links(uow: UnitOfWork, account_id: UUID, now: datetime) -> None:
    """No link of the user that was mailed before works any more."""
    await uow.execute("UPDATE reset_link SET used_at = $2 WHERE account_id = $1 AND used_at IS NULL", account_id, now)


async def purge_expired(database: Database, before: datetime) -> None:
    await database.fetch("DELETE FROM reset_link WHERE expires_at < $1", before)
