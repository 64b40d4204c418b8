"""The audit log: records come in once each, and nothing changes or removes them (a trigger sees to it)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from caravan.audit import AuditRecorded
from caravan.database import Database, UnitOfWork
from caravan.messages import Delivery


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to look for; None: anything."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def insert_records(uow: UnitOfWork, deliveries: Sequence[Delivery[AuditRecorded]]) -> None:
    records = [delivery.message for delivery in deliveries]
    await uow.execute(
        "INSERT INTO audit_record (id, time, actor, action, target, result, details, trace_id)"
        " SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[],"
        " $7::json[], $8::text[])"
        " ON CONFLICT DO NOTHING",
        [delivery.id for delivery in deliveries],
        [delivery.time for delivery in deliveries],
        [_replace_nul(item.actor) for item in records],
        [_replace_nul(item.action) for item in records],
        [_replace_nul(item.target) for item in records],
        [_replace_nul(item.result) for item in records],
        [orjson.dumps(item.details).decode() for item in records],
        [_replace_nul(item.trace_id) if item.trace_id else None for item in records],
    )


def _replace_nul(text: str) -> str:
    """A deed is recorded whatever its target was called; Postgres has no NUL."""
    return text.replace("\x00", "\ufffd")


async def search_records(
    database: Database, filters: AuditFilter, after: tuple[datetime, UUID] | None, limit: int
) -> list[asyncpg.Record]:
    """The newest first. The conditions are put together so that each search has a plan, and an index, of its own."""
    conditions = ["true"]
    arguments: list[object] = []
    for column, operator, value in (
        ("actor", "=", filters.actor),
        ("action", "=", filters.action),
        ("target", "=", filters.target),
        ("time", ">=", filters.since),
        ("time", "<", filters.until),
    ):
        if value is not None:
            arguments.append(value)
            conditions.append(f"{column} {operator} ${len(arguments)}")
    if after is not None:
        conditions.append(f"(time, id) < (${len(arguments) + 1}::timestamptz, ${len(arguments) + 2}::uuid)")
        arguments += after
    return await database.fetch(
        "SELECT id, time, actor, action, target, result, details, trace_id FROM audit_record"
        f" WHERE {' AND '.join(conditions)} ORDER BY time DESC, id DESC LIMIT {limit:d}",
        *arguments,
    )
