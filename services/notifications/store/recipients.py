"""The queries of recipients: the customers whom campaigns can reach, and those of them whom one run is for."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from operator import ge, gt
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, exists, func, or_, select

from caravan.database import UnitOfWork
from caravan.database import tables as sql
from caravan.database.conditions import compare_if_given
from caravan.database.query import Query, RowArrays
from caravan.database.tables import col, list_columns
from services.notifications import tables


@dataclass(frozen=True, slots=True)
class Recipient:
    user_id: UUID
    email: str
    name: str
    active: bool
    version: int
    registered_at: datetime
    verified: bool = True
    """The address is known to be theirs."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a run is for: customers registered in a span of time, who have, or have not, ordered since a moment (ids
    made then and later).
    """

    registered_after: datetime | None
    registered_before: datetime
    ordered_since: UUID | None
    not_ordered_since: UUID | None


class CampaignRecipient(NamedTuple):
    user_id: UUID
    email: str
    name: str


def _has_ordered_since(moment: ColumnElement[UUID]) -> ColumnElement[bool]:
    """Whether a recipient has ordered since then: its notification is there, or was deleted for its age and the last
    one's id kept.
    """
    return or_(
        exists().where(
            col(tables.Notification.user_id) == col(tables.Recipient.user_id),
            col(tables.Notification.id) >= moment,
            col(tables.Notification.kind) == "order_received",
        ),
        exists().where(
            col(tables.LastOrder.user_id) == col(tables.Recipient.user_id),
            col(tables.LastOrder.notification_id) >= moment,
        ),
    )


_ORDERED_SINCE = bindparam("ordered_since", type_=sql.UUID)
_NOT_ORDERED_SINCE = bindparam("not_ordered_since", type_=sql.UUID)
_IS_REACHABLE = (
    col(tables.Recipient.active),
    compare_if_given(col(tables.Recipient.registered_at), "registered_after", ge),
    col(tables.Recipient.registered_at) < bindparam("registered_before"),
    or_(_ORDERED_SINCE.is_(None), _has_ordered_since(_ORDERED_SINCE)),
    or_(_NOT_ORDERED_SINCE.is_(None), ~_has_ordered_since(_NOT_ORDERED_SINCE)),
)
_COUNT_RECIPIENTS = Query(select(func.count()).select_from(tables.Recipient).where(*_IS_REACHABLE), int)
_FETCH_RECIPIENTS = Query(
    select(*list_columns(tables.Recipient, CampaignRecipient))
    .where(*_IS_REACHABLE, compare_if_given(col(tables.Recipient.user_id), "after", gt))
    .order_by(col(tables.Recipient.user_id))
    .limit(bindparam("limit")),
    CampaignRecipient,
)
_ROWS = RowArrays(tables.Recipient, Recipient)
_NEWEST = ", ".join(
    f"{name} = CASE WHEN excluded.version > r.version THEN excluded.{name} ELSE r.{name} END"
    for name in _ROWS.fields
    if name not in ("user_id", "version", "registered_at")
)
_UPSERT = (
    f"INSERT INTO recipient AS r ({_ROWS.names}) SELECT * FROM {_ROWS.unnest}"
    " ON CONFLICT (user_id) DO UPDATE SET registered_at = least(r.registered_at, excluded.registered_at),"
    f" {_NEWEST}, version = greatest(r.version, excluded.version)"
)


async def upsert_recipients(uow: UnitOfWork, recipients: Sequence[Recipient]) -> None:
    """Write what is known of users; an older version of one changes nothing, save that the time of registering is the
    first known.
    """
    newest = {r.user_id: r for r in sorted(recipients, key=lambda r: (r.user_id, r.version))}
    await uow.execute(_UPSERT, *_ROWS.read_rows(newest.values()))


async def count_recipients(uow: UnitOfWork, audience: Audience) -> int:
    return await _COUNT_RECIPIENTS.fetch_value(uow, **asdict(audience)) or 0


async def fetch_recipients(
    uow: UnitOfWork, audience: Audience, after: UUID | None, limit: int
) -> list[CampaignRecipient]:
    """The next recipients by user id."""
    return await _FETCH_RECIPIENTS.fetch_all(uow, **asdict(audience), after=after, limit=limit)
