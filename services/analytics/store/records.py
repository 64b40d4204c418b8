"""The audit log: records come in once each, and nothing changes or removes them (a trigger sees to it)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from caravan.audit import AuditRecorded
from caravan.database import Database, UnitOfWork
from caravan.database.query import Upsert
from caravan.messages import Delivery
from services.analytics.tables import AuditRecord


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to look for; None: anything."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def _replace_nul(text: str) -> str:
    """A deed is recorded whatever its target was called; Postgres has no NUL."""
    return text.replace("\x00", "\ufffd")


_INSERT: Upsert[Delivery[AuditRecorded]] = Upsert(
    AuditRecord,
    {
        "id": lambda delivery: delivery.id,
        "time": lambda delivery: delivery.time,
        "actor": lambda delivery: _replace_nul(delivery.message.actor),
        "action": lambda delivery: _replace_nul(delivery.message.action),
        "target": lambda delivery: _replace_nul(delivery.message.target),
        "result": lambda delivery: _replace_nul(delivery.message.result),
        "details": lambda delivery: orjson.dumps(delivery.message.details).decode(),
        "trace_id": lambda delivery: _replace_nul(delivery.message.trace_id or "") or None,
    },
    changes=(),
)


async def insert_records(uow: UnitOfWork, deliveries: Sequence[Delivery[AuditRecorded]]) -> None:
    await _INSERT.execute(uow, deliveries)


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
