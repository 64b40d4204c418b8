"""The queries of notifications that failed for good: list, send again, discard."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, bindparam, null, select, update

from caravan.database import Database, UnitOfWork
from caravan.database.conditions import is_among
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.notifications.tables import Notification


class FailedNotification(NamedTuple):
    """It failed when it was due. Without its values: a link to set a password is for its owner only."""

    id: UUID
    about: str
    kind: str
    channel: str
    recipient: str
    subject: str | None
    reason: str | None
    attempts: int
    created_at: datetime
    due_at: datetime


_HAS_FAILED = and_(col(Notification.state) == "failed", col(Notification.discarded_at).is_(None))
_LIST_FAILED = Query(
    select(*list_columns(Notification, FailedNotification))
    .where(_HAS_FAILED)
    .order_by(col(Notification.due_at), col(Notification.id))
    .limit(bindparam("limit")),
    FailedNotification,
)
_DISCARD_FAILED = Query(
    update(Notification)
    .where(is_among(col(Notification.id), "ids"), _HAS_FAILED)
    .values(discarded_at=bindparam("now"), values=null())
)


async def list_failed(database: Database, limit: int) -> list[FailedNotification]:
    """The longest failed first."""
    return await _LIST_FAILED.fetch_all(database, limit=limit)


async def requeue_failed(
    uow: UnitOfWork, ids: Sequence[UUID], categories_by_kind: Mapping[str, str], now: datetime
) -> list[str]:
    """Make them due, with all their attempts; the priority of each that was failed until now. What a provider had taken
    goes under another key.

    Whoever has opted out since gets none, and one of a stopped campaign waits until that is resumed.
    """
    rows = await uow.fetch(
        "UPDATE notification n SET attempts = 0, reason = NULL, sent_at = NULL,"
        " resends = n.resends + (n.sent_at IS NOT NULL)::int,"
        " state = CASE WHEN failed.opted_out THEN 'suppressed' ELSE 'pending' END,"
        " values = CASE WHEN NOT failed.opted_out THEN n.values END,"
        " due_at = CASE WHEN EXISTS (SELECT FROM campaign_run r JOIN campaign c ON c.id = r.campaign_id"
        " WHERE r.id = n.run_id AND c.stopped)"
        " THEN 'infinity' ELSE $4::timestamptz END"
        " FROM (SELECT o.id, coalesce(k.category = ANY(p.opt_out), false) AS opted_out FROM notification o"
        " JOIN unnest($2::text[], $3::text[]) AS k (kind, category) ON k.kind = o.kind LEFT"
        " JOIN preference p ON p.user_id = o.user_id"
        " WHERE o.id = ANY($1) AND o.state = 'failed' AND o.discarded_at IS NULL ORDER BY o.id"
        " FOR UPDATE OF o) AS failed"
        " WHERE n.id = failed.id RETURNING n.priority",
        list(ids),
        list(categories_by_kind.keys()),
        list(categories_by_kind.values()),
        now,
    )
    return [row[0] for row in rows]


async def discard_failed(uow: UnitOfWork, ids: Sequence[UUID], now: datetime) -> int:
    """They stay in the history, without what they would have said."""
    return await _DISCARD_FAILED.execute(uow, ids=list(ids), now=now)
