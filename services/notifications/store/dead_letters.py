"""The queries of notifications that failed for good: list, send again, discard."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from caravan.database import Database, UnitOfWork


async def list_failed(database: Database, limit: int) -> list[asyncpg.Record]:
    """The longest failed first. Without their values: a link to set a password is for its owner only."""
    return await database.fetch(
        "SELECT id, about, kind, channel, recipient, subject, reason, attempts, created_at, due_at AS failed_at"
        " FROM notification"
        " WHERE state = 'failed' AND discarded_at IS NULL ORDER BY due_at, id LIMIT $1",
        limit,
    )


async def requeue_failed(
    uow: UnitOfWork, ids: Sequence[UUID], categories_by_kind: Mapping[str, str], now: datetime
) -> list[str]:
    """Make them due, with all their attempts; the priority of each that was failed until now.

    Whoever has opted out since gets none, and one of a stopped campaign waits until that is resumed.
    """
    rows = await uow.fetch(
        "UPDATE notification n SET attempts = 0, reason = NULL,"
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
    return await uow.execute(
        "UPDATE notification SET discarded_at = $2, values = NULL"
        " WHERE id = ANY($1) AND state = 'failed' AND discarded_at IS NULL",
        list(ids),
        now,
    )
