"""The preference table: by which channel a user wants to be reached, and what not to get."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert

from caravan.database import Database, UnitOfWork
from caravan.database.conditions import is_among
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.notifications import tables
from services.notifications.messages import ChannelName
from services.notifications.model import Preference


def _to_preference(
    channel: ChannelName, phone: str | None, opt_out: list[str], version: int, time_zone: str | None
) -> Preference:
    return Preference(channel, phone, frozenset(opt_out), version, time_zone)


def _to_preference_of_user(
    channel: ChannelName, phone: str | None, opt_out: list[str], version: int, time_zone: str | None, user_id: UUID
) -> tuple[UUID, Preference]:
    return user_id, _to_preference(channel, phone, opt_out, version, time_zone)


_SELECT = select(*list_columns(tables.Preference, Preference))
_IS_USER = col(tables.Preference.user_id) == bindparam("user_id")
_FIND = Query(
    _SELECT.add_columns(col(tables.Preference.user_id)).where(is_among(col(tables.Preference.user_id), "users")),
    _to_preference_of_user,
)
_INSERT_DEFAULT = Query(insert(tables.Preference).values(user_id=bindparam("user_id")).on_conflict_do_nothing())
_LOCK = Query(_SELECT.where(_IS_USER).with_for_update(), _to_preference)
_SAVE = Query(
    update(tables.Preference)
    .where(_IS_USER)
    .values({name: bindparam(name) for name in ("channel", "phone", "opt_out", "version", "time_zone")})
)


async def find_preferences(source: Database | UnitOfWork, users: Sequence[UUID]) -> dict[UUID, Preference]:
    """The preferences of those users who have stated any."""
    return dict(await _FIND.fetch_all(source, users=list(users)))


async def lock_preference(uow: UnitOfWork, user_id: UUID) -> Preference:
    """A user's preference, made if there was none, locked until the end of the unit of work."""
    await _INSERT_DEFAULT.execute(uow, user_id=user_id)
    preference = await _LOCK.fetch_one(uow, user_id=user_id)
    assert preference is not None
    return preference


async def save_preference(uow: UnitOfWork, user_id: UUID, preference: Preference) -> None:
    await _SAVE.execute(
        uow,
        user_id=user_id,
        channel=preference.channel,
        phone=preference.phone,
        opt_out=sorted(preference.opt_out),
        version=preference.version,
        time_zone=preference.time_zone,
    )
