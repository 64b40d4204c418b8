"""The notification table: what is to be sent, to whom, and what came of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, get_args
from uuid import UUID

import asyncpg
from sqlalchemy import bindparam, exists, func, select, update
from sqlalchemy.orm import aliased

from caravan.clock import make_lowest_id
from caravan.database import Database, UnitOfWork
from caravan.database.conditions import is_among
from caravan.database.query import Query, Upsert
from caravan.database.tables import col
from services.notifications import tables
from services.notifications.messages import NotificationState
from services.notifications.model import SECRET_KINDS, Priority

PRUNE_BATCH = 5_000
COUNT_LIMIT = 100_000
STATE_CONDITIONS = {state: f"state = '{state}'" for state in get_args(NotificationState)}
"""In the text of the query, because only so the planner sees that a partial index serves."""


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """A notification as it is written."""

    id: UUID
    about: str
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
    `recorded_attempts` is what it stays at.
    """

    id: UUID
    attempts: int
    recorded_attempts: int
    state: NotificationState
    due_at: datetime
    sent_at: datetime | None = None
    subject: str | None = None
    reason: str | None = None


class OrderOwner(NamedTuple):
    order_id: UUID
    user_id: UUID


class UnverifiedCount(NamedTuple):
    user_id: UUID
    messages: int


_Owned = aliased(tables.Notification)
_IS_OWNERLESS = col(tables.Notification.user_id).is_(None)
_INSERT = Upsert(
    tables.Notification, NotificationRow, shared=("created_at", "due_at"), key=("about", "kind"), changes=()
)
_FIND_ORDER_OWNERS = Query(
    select(col(tables.Notification.order_id), col(tables.Notification.user_id)).where(
        is_among(col(tables.Notification.order_id), "orders"), ~_IS_OWNERLESS
    ),
    OrderOwner,
)
_ASSIGN_MISSING_OWNERS = Query(
    update(tables.Notification)
    .where(_IS_OWNERLESS, col(tables.Notification.order_id).is_not(None))
    .where(col(tables.Notification.created_at) > bindparam("since"))
    .where(col(_Owned.order_id) == col(tables.Notification.order_id), col(_Owned.user_id).is_not(None))
    .values(user_id=col(_Owned.user_id))
)
_HAS_DUE = Query(
    select(
        exists().where(
            col(tables.Notification.state) == "pending",
            col(tables.Notification.priority) == bindparam("priority"),
            col(tables.Notification.due_at) <= bindparam("now"),
            is_among(col(tables.Notification.channel), "channels"),
        )
    ),
    bool,
)
_LOCK_UNVERIFIED = Query(
    select(col(tables.Recipient.user_id))
    .where(is_among(col(tables.Recipient.user_id), "users"), ~col(tables.Recipient.verified))
    .order_by(col(tables.Recipient.user_id))
    .with_for_update(key_share=True),
    UUID,
)
_COUNT_UNVERIFIED = Query(
    select(
        col(tables.Recipient.user_id),
        select(func.count())
        .where(
            col(tables.Notification.user_id) == col(tables.Recipient.user_id),
            col(tables.Notification.id) >= bindparam("lowest_id"),
            col(tables.Notification.created_at) > bindparam("since"),
            is_among(col(tables.Notification.kind), "kinds"),
            col(tables.Notification.state) != "suppressed",
        )
        .scalar_subquery(),
    ).where(
        is_among(col(tables.Recipient.user_id), "users"),
        ~col(tables.Recipient.verified),
    ),
    UnverifiedCount,
)


async def insert_notifications(
    uow: UnitOfWork, rows: Sequence[NotificationRow], now: datetime, due_at: datetime | None = None
) -> int:
    """Write notifications, due now or later; a pair (about, kind) that is there already stays as it is. How many were
    new.
    """
    ordered = sorted(rows, key=lambda row: (row.about, row.kind))
    return await _INSERT.execute(uow, ordered, created_at=now, due_at=due_at or now)


async def find_order_owners(uow: UnitOfWork, orders: Sequence[UUID]) -> dict[UUID, UUID]:
    """The owners of these orders, as far as other notifications name them."""
    return dict(await _FIND_ORDER_OWNERS.fetch_all(uow, orders=list(orders)))


async def assign_missing_owners(database: Database, since: datetime) -> None:
    """Give notifications the owner of their order, where the one that names the owner came later."""
    await _ASSIGN_MISSING_OWNERS.execute(database, since=since)


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
        " RETURNING n.id, n.about, n.kind, n.user_id, n.channel, n.recipient, n.values, n.attempts, n.created_at,"
        " n.resends",
        priority,
        now,
        list(channels),
        limit,
        lease,
    )


async def has_due_notifications(database: Database, priority: Priority, channels: Sequence[str], now: datetime) -> bool:
    return bool(await _HAS_DUE.fetch_value(database, priority=priority, now=now, channels=list(channels)))


async def save_results(database: Database, results: Sequence[AttemptResult]) -> None:
    """Record what came of the attempts. The values of secret kinds go when they are sent: a reset link must not lie
    about. Those of others are there when it has to be sent again.
    """
    columns = zip(
        *((f.id, f.attempts, f.recorded_attempts, f.state, f.due_at, f.sent_at, f.subject, f.reason) for f in results),
        strict=True,
    )
    await database.fetch(
        "UPDATE notification n SET state = f.state, attempts = f.recorded_attempts, due_at = f.due_at,"
        " sent_at = f.sent_at, subject = coalesce(f.subject, n.subject),"
        " reason = f.reason, values = CASE WHEN f.state <> 'sent' OR n.kind <> ALL($9) THEN n.values END"
        " FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[],"
        " $8::text[])"
        " AS f (id, attempts, recorded_attempts, state, due_at, sent_at, subject, reason)"
        " WHERE n.id = f.id AND n.state = 'pending' AND n.attempts = f.attempts",
        *(list(column) for column in columns),
        SECRET_KINDS,
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
    get since then. Others that count for them wait until this unit of work has ended, so that none goes uncounted.
    """
    unverified = await _LOCK_UNVERIFIED.fetch_values(uow, users=list(users))
    if not unverified:
        return {}
    counts = await _COUNT_UNVERIFIED.fetch_all(
        uow, users=unverified, kinds=list(kinds), since=since, lowest_id=make_lowest_id(since)
    )
    return dict(counts)
