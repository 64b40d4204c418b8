"""The preference table: by which channel a user wants to be reached, and what not to get."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from caravan.database import Database, UnitOfWork
from services.notifications.model import Preference


def _to_preference(row: asyncpg.Record) -> Preference:
    return Preference(row["channel"], row["phone"], frozenset(row["opt_out"]), row["version"])


async def find_preferences(source: Database | UnitOfWork, users: Sequence[UUID]) -> dict[UUID, Preference]:
    """The preferences of those users who have stated any."""
    rows = await source.fetch(
        "SELECT user_id, channel, phone, opt_out, version FROM preference WHERE user_id = ANY($1)", list(users)
    )
    return {row["user_id"]: _to_preference(row) for row in rows}


async def lock_preference(uow: UnitOfWork, user_id: UUID) -> Preference:
    """A user's preference, made if there was none, locked until the end of the unit of work."""
    await uow.execute("INSERT INTO preference (user_id) VALUES ($1) ON CONFLICT DO NOTHING", user_id)
    row = await uow.fetchrow(
        "SELECT channel, phone, opt_out, version FROM preference WHERE user_id = $1 FOR UPDATE", user_id
    )
    assert row is not None
    return _to_preference(row)


async def save_preference(uow: UnitOfWork, user_id: UUID, preference: Preference) -> None:
    await uow.execute(
        "UPDATE preference SET channel = $2, phone = $3, opt_out = $4, version = $5 WHERE user_id = $1",
        user_id,
        preference.channel,
        preference.phone,
        sorted(preference.opt_out),
        preference.version,
    )
