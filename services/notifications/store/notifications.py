"""The notification table: what is to be sent, to whom, and what came of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, get_args
from uuid import UUID

import asyncpg

from caravan.clock import make_lowest_id
from caravan.database import Database, UnitOfWork
from services.notifications.messages import NotificationState
from services.notifications.model import Priority

PRUNE_BATCH = 5_000


COUNT_LIMIT = 100_000


STATE_CONDITIONS = {state: f"state = '{state}'" for state in get_args(NotificationState)}
"""In the text of the query, because only so the planner sees that a partial index serves."""


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """A notification as it is written."""

    id: UUID
    dedup_key: str
    kind: str
    user_id: UUID | None
    order_id: UUID | None
    channel: str
    recipient: str
    priority: Priority
    state: NotificationState
    values: str | None
    run_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What came of one attempt. `attempts` is the claim's, so that an owner who came back too late changes nothing;
    `counted` is what it stays at.
    """

    id: UUID
    attempts: int
    recorded_attempts: int
    state: NotificationState
    due_at: datetime
    sent_at: datetime | None = None
    subject: str | None = None
    reason: str | None = None


async def insert_notifications(uow: UnitOfWork, rows: Sequence[NotificationRow], now: datetime) -> int:
    """Write notifications; a pair (about, kind) that is there already stays as it is. How many were new."""
    rows = sorted(rows, key=lambda row: (row.dedup_key, row.kind))
    columns = zip(
        *(
            (
                r.id,
                r.dedup_key,
                r.kind,
                r.user_id,
                r.order_id,
                r.channel,
                r.recipient,
                r.priority,
                r.state,
                r.values,
                r.run_id,
            )
            for r in rows
        ),
        strict=True,
    )
    return await uow.execute(
        "INSERT INTO notification (id, about, kind, user_id, order_id, channel, recipient, priority, state, values,"
        " run_id, created_at, due_at)"
        " SELECT *, $12::timestamptz, $12::timestamptz"
        " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::text[], $7::text[],"
        " $8::text[], $9::text[], $10::json[], $11::uuid[]) ON CONFLICT (about, kind) DO NOTHING",
        *(list(column) for column in columns),
        now,
    )


async def find_order_owners(uow: UnitOfWork, orders: Sequence[UUID]) -> dict[UUID, UUID]:
    """The owners of these orders, as far as other notifications name them."""
    rows = await uow.fetch(
        "SELECT order_id, user_id FROM notification WHERE order_id = ANY($1) AND user_id IS NOT NULL", list(orders)
    )
    return {row[0]: row[1] for row in rows}


async def assign_missing_owners(database: Database, since: datetime) -> None:
    """Give notifications the owner of their order, where the one that names the owner came later."""
    await database.fetch(
        "UPDATE notification n SET user_id = o.user_id FROM notification o"
        " WHERE n.user_id IS NULL AND n.order_id IS NOT NULL AND n.created_at > $1 AND o.order_id = n.order_id"
        " AND o.user_id IS NOT NULL",
        since,
    )


async def claim_due_notifications(
    database: Database, priority: Priority, channels: Sequence[str], *, now: datetime, lease: timedelta, limit: int
) -> list[asyncpg.Record]:
    """Take what is due, the longest waiting first. It is due again after the lease, should the claimer die."""
    return await database.fetch(
        "WITH due AS (SELECT id FROM notification WHERE state = 'pending' AND priority = $1 AND due_at <= $2"
        " AND channel = ANY($3)"
        " ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED)"
        " UPDATE notification n SET due_at = $2 + $5, attempts = least(attempts + 1, 30000) FROM due"
        " WHERE n.id = due.id"
        " RETURNING n.id, n.about, n.kind, n.user_id, n.channel, n.recipient, n.values, n.attempts, n.created_at",
        priority,
        now,
        list(channels),
        limit,
        lease,
    )


async def has_due_notifications(database: Database, priority: Priority, channels: Sequence[str], now: datetime) -> bool:
    return bool(
        await database.fetchval(
            "SELECT EXISTS (SELECT FROM notification WHERE state = 'pending' AND priority = $1 AND due_at <= $2"
            " AND channel = ANY($3))",
            priority,
            now,
            list(channels),
        )
    )


async def save_results(database: Database, results: Sequence[AttemptResult]) -> None:
    """Record what came of the attempts. The values of what is sent go: what it said is in the mail, and a reset link
    must not lie about.
    """
    columns = zip(
        *((f.id, f.attempts, f.recorded_attempts, f.state, f.due_at, f.sent_at, f.subject, f.reason) for f in results),
        strict=True,
    )
    await database.fetch(
        "UPDATE notification n SET state = f.state, attempts = f.counted, due_at = f.due_at, sent_at = f.sent_at,"
        " subject = coalesce(f.subject, n.subject),"
        " reason = f.reason, values = CASE WHEN f.state <> 'sent' THEN n.values END"
        " FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[],"
        " $8::text[])"
        " AS f (id, attempts, counted, state, due_at, sent_at, subject, reason)"
        " WHERE n.id = f.id AND n.state = 'pending' AND n.attempts = f.attempts",
        *(list(column) for column in columns),
    )


async def list_notifications(
    database: Database,
    *,
    limit: int,
    before: UUID | None,
    user_id: UUID | None = None,
    order_id: UUID | None = None,
    state: NotificationState | None = None,
) -> list[asyncpg.Record]:
    """Notifications, the newest first."""
    conditions = [STATE_CONDITIONS[state]] if state else []
    arguments: list[Any] = [limit]
    for condition, value in (("user_id =", user_id), ("order_id =", order_id), ("id <", before)):
        if value is not None:
            arguments.append(value)
            conditions.append(f"{condition} ${len(arguments)}")
    return await database.fetch(
        "SELECT id, about, kind, channel, state, priority, recipient, subject, attempts, reason, created_at,"
        " sent_at FROM notification"
        f" WHERE {' AND '.join(conditions) or 'TRUE'} ORDER BY id DESC LIMIT $1",
        *arguments,
    )


async def count_waiting(database: Database) -> dict[str, int]:
    """How many wait, by priority; counted up to a limit."""
    rows = await database.fetch(
        "SELECT priority, count(*) FROM (SELECT priority FROM notification WHERE state = 'pending'"
        " LIMIT $1) AS p GROUP BY 1",
        COUNT_LIMIT,
    )
    return {row[0]: row[1] for row in rows}


async def prune_finished(database: Database, before: UUID) -> int:
    """Delete finished notifications whose id (it sorts by time) is older; of orders the last one's id is kept for each
    user.
    """
    return int(
        await database.fetchval(
            "WITH deleted AS (DELETE FROM notification WHERE id IN (SELECT id FROM notification"
            " WHERE id < $1 AND state <> 'pending' ORDER BY id LIMIT $2)"
            " RETURNING id, user_id, kind), last_orders AS (INSERT INTO last_order AS l (user_id, notification_id)"
            " SELECT DISTINCT ON (user_id) user_id, id FROM deleted"
            " WHERE kind = 'order_received' AND user_id IS NOT NULL ORDER BY user_id, id DESC"
            " ON CONFLICT (user_id) DO UPDATE SET notification_id = greatest(l.notification_id,"
            " excluded.notification_id))"
            " SELECT count(*) FROM deleted",
            before,
            PRUNE_BATCH,
        )
    )


async def count_unverified_messages(
    uow: UnitOfWork, users: Collection[UUID], kinds: Sequence[str], since: datetime
) -> dict[UUID, int]:
    """Those of these users whose address is not known to be theirs, with how many messages of these kinds they were to
    get since then.
    """
    rows = await uow.fetch(
        "SELECT user_id, (SELECT count(*) FROM notification n WHERE n.user_id = r.user_id AND n.id >= $4"
        " AND n.created_at > $3"
        " AND n.kind = ANY($2) AND n.state <> 'suppressed') FROM recipient r WHERE user_id = ANY($1) AND NOT verified",
        list(users),
        list(kinds),
        since,
        make_lowest_id(since),
    )
    return {row[0]: row[1] for row in rows}
