"""The queries of campaigns, their runs, and the customers whom they can reach."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from caravan.database import Database, UnitOfWork


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


async def upsert_recipients(uow: UnitOfWork, recipients: Sequence[Recipient]) -> None:
    """Write what is known of users; an older version of one changes nothing, save that the time of registering is the
    first known.
    """
    newest = {r.user_id: r for r in sorted(recipients, key=lambda r: (r.user_id, r.version))}
    columns = zip(
        *((r.user_id, r.email, r.name, r.active, r.version, r.registered_at, r.verified) for r in newest.values()),
        strict=True,
    )
    await uow.execute(
        "INSERT INTO recipient AS r (user_id, email, name, active, version, registered_at, verified)"
        " SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::int[], $6::timestamptz[],"
        " $7::boolean[])"
        " ON CONFLICT (user_id) DO UPDATE SET registered_at = least(r.registered_at, excluded.registered_at),"
        " email = CASE WHEN excluded.version > r.version THEN excluded.email ELSE r.email END,"
        " name = CASE WHEN excluded.version > r.version THEN excluded.name ELSE r.name END,"
        " active = CASE WHEN excluded.version > r.version THEN excluded.active ELSE r.active END,"
        " verified = CASE WHEN excluded.version > r.version THEN excluded.verified ELSE r.verified END,"
        " version = greatest(r.version, excluded.version)",
        *(list(column) for column in columns),
    )


def _build_ordered_condition(parameter: str) -> str:
    """Whether a recipient has ordered since then: its notification is there, or was deleted for its age and the last
    one's id kept.
    """
    return (
        f"(EXISTS (SELECT FROM notification n WHERE n.user_id = a.user_id AND n.id >= {parameter}"
        " AND n.kind = 'order_received')"
        f" OR EXISTS (SELECT FROM last_order l WHERE l.user_id = a.user_id AND l.notification_id >= {parameter}))"
    )


_REACHABLE = f"""recipient a WHERE a.active
    AND ($1::timestamptz IS NULL OR a.registered_at >= $1) AND a.registered_at < $2
    AND ($3::uuid IS NULL OR {_build_ordered_condition("$3")})
    AND ($4::uuid IS NULL OR NOT {_build_ordered_condition("$4")})"""


async def count_recipients(uow: UnitOfWork, audience: Audience) -> int:
    return int(await uow.fetchval(f"SELECT count(*) FROM {_REACHABLE}", *_to_arguments(audience)))


async def fetch_recipients(uow: UnitOfWork, audience: Audience, after: UUID | None, limit: int) -> list[asyncpg.Record]:
    """The next recipients by user id."""
    return await uow.fetch(
        f"SELECT a.user_id, a.email, a.name FROM {_REACHABLE} AND ($5::uuid IS NULL OR a.user_id > $5)"
        " ORDER BY a.user_id LIMIT $6",
        *_to_arguments(audience),
        after,
        limit,
    )


def _to_arguments(audience: Audience) -> tuple[Any, ...]:
    return audience.registered_after, audience.registered_before, audience.ordered_since, audience.not_ordered_since


async def insert_campaign(uow: UnitOfWork, campaign: dict[str, Any]) -> None:
    await uow.execute(
        "INSERT INTO campaign (id, name, subject, text, segment, cron, time_zone, next_at, created_by, created_at)"
        " VALUES ($1, $2, $3, $4, $5::json, $6, $7, $8, $9, $10)",
        *(campaign[name] for name in ("id", "name", "subject", "text")),
        orjson.dumps(campaign["segment"]).decode(),
        *(campaign[name] for name in ("cron", "time_zone", "next_at", "created_by", "created_at")),
    )


async def find_campaign(database: Database, campaign_id: UUID) -> asyncpg.Record | None:
    return await database.fetchrow("SELECT * FROM campaign WHERE id = $1", campaign_id)


async def lock_campaign(uow: UnitOfWork, campaign_id: UUID) -> asyncpg.Record | None:
    return await uow.fetchrow("SELECT * FROM campaign WHERE id = $1 FOR UPDATE", campaign_id)


async def list_campaigns(database: Database, before: UUID | None, limit: int) -> list[asyncpg.Record]:
    """The newest first."""
    return await database.fetch(
        "SELECT * FROM campaign WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2", before, limit
    )


async def list_runs(database: Database, campaigns: Sequence[UUID], runs_each: int) -> list[asyncpg.Record]:
    """The newest runs of each campaign, with what became of their messages."""
    return await database.fetch(
        "SELECT r.*, n.pending, n.sent, n.failed, n.suppressed FROM unnest($1::uuid[]) AS c (id)"
        " CROSS JOIN LATERAL (SELECT * FROM campaign_run WHERE campaign_id = c.id ORDER BY due_at DESC LIMIT $2) r"
        " CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE state = 'pending') AS pending,"
        " count(*) FILTER (WHERE state = 'sent') AS sent,"
        " count(*) FILTER (WHERE state = 'failed') AS failed,"
        " count(*) FILTER (WHERE state = 'suppressed') AS suppressed"
        " FROM notification WHERE run_id = r.id) n ORDER BY r.due_at DESC",
        list(campaigns),
        runs_each,
    )


async def insert_run(
    uow: UnitOfWork, run_id: UUID, campaign_id: UUID, due_at: datetime, state: str, recipients: int, now: datetime
) -> None:
    await uow.execute(
        "INSERT INTO campaign_run (id, campaign_id, due_at, state, recipients, started_at, moved_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $6)"
        " ON CONFLICT (campaign_id, due_at) DO NOTHING",
        run_id,
        campaign_id,
        due_at,
        state,
        recipients,
        now,
    )


async def set_next_run(uow: UnitOfWork, campaign_id: UUID, next_at: datetime | None) -> None:
    await uow.execute("UPDATE campaign SET next_at = $2 WHERE id = $1", campaign_id, next_at)


async def find_writing_runs(database: Database, campaign_id: UUID) -> list[UUID]:
    """The runs that have messages to write, the oldest first."""
    rows = await database.fetch(
        "SELECT id FROM campaign_run WHERE campaign_id = $1 AND state = 'writing' ORDER BY due_at", campaign_id
    )
    return [row[0] for row in rows]


async def lock_run(uow: UnitOfWork, run_id: UUID) -> asyncpg.Record | None:
    """A run that is to write on, with its campaign; None when it has been stopped or is complete. Whoever stops it
    waits for the chunk that is being written.
    """
    return await uow.fetchrow(
        "SELECT r.id, r.campaign_id, r.position, r.recipients, r.written, r.started_at, c.segment FROM campaign_run r"
        " JOIN campaign c ON c.id = r.campaign_id WHERE r.id = $1 AND r.state = 'writing' AND NOT c.stopped"
        " FOR UPDATE OF r FOR SHARE OF c",
        run_id,
    )


async def advance_run(
    uow: UnitOfWork, run_id: UUID, position: UUID | None, written: int, now: datetime, *, is_complete: bool
) -> None:
    await uow.execute(
        "UPDATE campaign_run SET position = coalesce($2, position), written = written + $3, moved_at = $4,"
        " state = CASE WHEN $5 THEN 'written' ELSE state END WHERE id = $1",
        run_id,
        position,
        written,
        now,
        is_complete,
    )


async def stop_campaign(uow: UnitOfWork, campaign_id: UUID) -> None:
    """No further message of it is written or sent; those of a batch that is being sent are."""
    await uow.execute("UPDATE campaign SET stopped = true WHERE id = $1", campaign_id)
    await uow.execute(
        "UPDATE notification SET due_at = 'infinity' WHERE state = 'pending' AND run_id IN (SELECT id"
        " FROM campaign_run WHERE campaign_id = $1)",
        campaign_id,
    )


async def resume_campaign(uow: UnitOfWork, campaign_id: UUID, now: datetime, *, with_missed: bool) -> None:
    """Go on where it was stopped; `missed`: send the run that was missed, too."""
    await uow.execute("UPDATE campaign SET stopped = false WHERE id = $1", campaign_id)
    await uow.execute(
        "UPDATE notification SET due_at = $2 WHERE state = 'pending' AND due_at = 'infinity'"
        " AND run_id IN (SELECT id FROM campaign_run WHERE campaign_id = $1)",
        campaign_id,
        now,
    )
    if with_missed:
        await uow.execute(
            "UPDATE campaign_run SET state = 'writing', started_at = $2, moved_at = $2"
            " WHERE campaign_id = $1 AND state = 'missed'",
            campaign_id,
            now,
        )


async def suppress_pending(uow: UnitOfWork, user_id: UUID) -> None:
    """Whoever opts out gets no more of what still waits."""
    await uow.execute(
        "UPDATE notification SET state = 'suppressed', values = NULL"
        " WHERE user_id = $1 AND state = 'pending' AND run_id IS NOT NULL",
        user_id,
    )


async def find_contents(database: Database, campaigns: Sequence[UUID]) -> dict[str, dict[str, str]]:
    """What these campaigns say, by their id as text."""
    rows = await database.fetch("SELECT id, subject, text FROM campaign WHERE id = ANY($1)", list(campaigns))
    return {str(row["id"]): {"subject": row["subject"], "text": row["text"]} for row in rows}


async def find_scheduled(database: Database, limit: int) -> list[tuple[UUID, datetime]]:
    """Campaigns with a run to come, the soonest first."""
    rows = await database.fetch(
        "SELECT id, next_at FROM campaign WHERE next_at IS NOT NULL AND NOT stopped ORDER BY next_at LIMIT $1", limit
    )
    return [(row[0], row[1]) for row in rows]


async def find_stalled(database: Database, now: datetime, idle: timedelta) -> list[UUID]:
    """Campaigns of which a run should write and has not for a while."""
    rows = await database.fetch(
        "SELECT DISTINCT c.id FROM campaign_run r JOIN campaign c ON c.id = r.campaign_id"
        " WHERE r.state = 'writing' AND r.moved_at <= $1 AND NOT c.stopped",
        now - idle,
    )
    return [row[0] for row in rows]
