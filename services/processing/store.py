"""The queries of sagas, each for a whole batch."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from caravan.database import Database, UnitOfWork, VersionConflict
from caravan.messages import Delivery
from services.orders.messages import OrderCreated
from services.processing.model import Saga

SAGA_COLUMNS = (
    "order_id, created, stock, money, parcel, cancel, reason, captured, refunded, processed, closed, version,"
    " reminders, started_at, actor, traceparent, cause"
)


@dataclass(slots=True)
class SagaRow:
    """A saga and what its commands are made from."""

    saga: Saga
    started_at: datetime
    reminders: int = 0
    order_json: str | None = None
    """OrderCreated as it is stored: most steps neither read nor write it."""
    command: Delivery[Any] | None = None
    """What the saga follows, without its payload: the order, or its cancellation."""

    def set_command(self, delivery: Delivery[Any]) -> None:
        self.command = delivery._replace(message=None)

    def parse_order(self) -> OrderCreated:
        """What the order's commands are made from; only for a saga that knows its order."""
        assert self.order_json is not None
        return OrderCreated.model_validate_json(self.order_json)


def _to_saga_row(record: asyncpg.Record) -> SagaRow:
    saga = Saga(
        record["order_id"],
        has_order=record["created"] is not None,
        stock=record["stock"],
        money=record["money"],
        parcel=record["parcel"],
        cancel_reason=record["cancel"],
        reason=record["reason"],
        captured=record["captured"],
        refunded=record["refunded"],
        is_processed=record["processed"],
        is_closed=record["closed"],
        version=record["version"],
    )
    command: Delivery[Any] | None = None
    if record["cause"] is not None:
        key = str(saga.order_id)
        command = Delivery(None, record["cause"], key, record["started_at"], record["traceparent"], record["actor"])
    return SagaRow(saga, record["started_at"], record["reminders"], record["created"], command)


async def lock_sagas(uow: UnitOfWork, orders: Collection[UUID]) -> dict[UUID, SagaRow]:
    """The sagas of these orders, locked in the order of their ids so that two batches can't wait for each other."""
    records = await uow.fetch(
        f"SELECT {SAGA_COLUMNS} FROM saga WHERE order_id = ANY($1) ORDER BY order_id FOR UPDATE", list(orders)
    )
    return {record["order_id"]: _to_saga_row(record) for record in records}


async def lock_overdue_sagas(uow: UnitOfWork, now: datetime, limit: int) -> list[SagaRow]:
    records = await uow.fetch(
        f"SELECT {SAGA_COLUMNS} FROM saga WHERE NOT closed AND deadline < $1 ORDER BY deadline LIMIT $2"
        " FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return [_to_saga_row(record) for record in records]


async def save_sagas(uow: UnitOfWork, rows: Collection[SagaRow], deadlines: Collection[datetime | None]) -> None:
    """Write all rows of a batch with one statement. Raises VersionConflict for a saga that somebody else made since it
    was found missing: its first two messages may come at the same moment, and a row that doesn't exist can't be locked.
    """
    sagas = [row.saga for row in rows]
    written = await uow.execute(
        "INSERT INTO saga (order_id, created, stock, money, parcel, cancel, reason, captured, refunded, processed,"
        " closed, version, started_at, deadline, reminders, actor, traceparent, cause)"
        " SELECT * FROM unnest($1::uuid[], $2::json[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],"
        " $8::bigint[], $9::bigint[], $10::bool[],"
        " $11::bool[], $12::int[], $13::timestamptz[], $14::timestamptz[], $15::int[], $16::text[], $17::text[],"
        " $18::uuid[])"
        " ON CONFLICT (order_id) DO UPDATE SET created = EXCLUDED.created, stock = EXCLUDED.stock,"
        " money = EXCLUDED.money, parcel = EXCLUDED.parcel,"
        " cancel = EXCLUDED.cancel, reason = EXCLUDED.reason, captured = EXCLUDED.captured,"
        " refunded = EXCLUDED.refunded, processed = EXCLUDED.processed,"
        " closed = EXCLUDED.closed, version = EXCLUDED.version, deadline = EXCLUDED.deadline,"
        " reminders = EXCLUDED.reminders,"
        " actor = EXCLUDED.actor, traceparent = EXCLUDED.traceparent, cause = EXCLUDED.cause"
        " WHERE saga.version = EXCLUDED.version - 1",
        [saga.order_id for saga in sagas],
        [row.order_json for row in rows],
        [saga.stock for saga in sagas],
        [saga.money for saga in sagas],
        [saga.parcel for saga in sagas],
        [saga.cancel_reason for saga in sagas],
        [saga.reason for saga in sagas],
        [saga.captured for saga in sagas],
        [saga.refunded for saga in sagas],
        [saga.is_processed for saga in sagas],
        [saga.is_closed for saga in sagas],
        [saga.version for saga in sagas],
        [row.started_at for row in rows],
        list(deadlines),
        [row.reminders for row in rows],
        [row.command.actor if row.command else None for row in rows],
        [row.command.traceparent if row.command else None for row in rows],
        [row.command.id if row.command else None for row in rows],
    )
    if written != len(rows):
        raise VersionConflict(
            f"{len(rows) - written} of {len(rows)} sagas were begun by somebody else at the same moment"
        )


async def count_open_sagas(database: Database) -> dict[str, int]:
    """How many sagas wait for what."""
    rows = await database.fetch(
        "SELECT CASE WHEN cancel IS NOT NULL THEN 'undoing' WHEN parcel <> 'none' THEN 'shipping'"
        " WHEN money <> 'none' THEN 'paying' ELSE 'reserving' END AS step,"
        " count(*) FROM saga WHERE NOT closed GROUP BY 1"
    )
    return {row["step"]: row["count"] for row in rows}
