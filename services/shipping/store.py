"""The queries of shipping. Rows of several orders are locked in the order of their ids."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from caravan.database import Database, UnitOfWork
from caravan.messages import Delivery
from services.shipping.messages import ShipOrder
from services.shipping.model import Shipment

_SHIPMENT_COLUMNS = "order_id, status, email, parcels, carrier, tracking_number, shipped_at, traceparent, actor, cause"


async def insert_shipments(
    uow: UnitOfWork, commands: Sequence[Delivery[ShipOrder]], due_at: datetime, now: datetime
) -> None:
    """New shipments; an order that has one, or was cancelled, keeps what it has."""
    orders = [d.message for d in commands]
    await uow.execute(
        "INSERT INTO shipment (order_id, status, email, recipient, address, parcels, traceparent, actor, cause,"
        " due_at, requested_at)"
        " SELECT o, 'requested', e, r, a, p, t, w, c, $9, $10"
        " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::json[], $6::text[], $7::text[],"
        " $8::uuid[]) AS s(o, e, r, a, p, t, w, c)"
        " ORDER BY o ON CONFLICT (order_id) DO NOTHING",
        [o.order_id for o in orders],
        [o.email for o in orders],
        [o.recipient for o in orders],
        [o.address for o in orders],
        [orjson.dumps([parcel.model_dump() for parcel in o.parcels]).decode() for o in orders],
        [d.traceparent for d in commands],
        [d.actor for d in commands],
        [d.id for d in commands],
        due_at,
        now,
    )


async def cancel_shipments(uow: UnitOfWork, orders: Collection[UUID], now: datetime) -> list[Shipment]:
    """Stop what the carrier has not been called for, remember what has never been asked for, and say how each
    stands.
    """
    await uow.execute(
        "INSERT INTO shipment AS s (order_id, status, requested_at, cancelled_at) SELECT o, 'cancelled', $2, $2"
        " FROM unnest($1::uuid[]) o ORDER BY o"
        " ON CONFLICT (order_id) DO UPDATE SET status = 'cancelled', due_at = NULL, cancelled_at = $2"
        " WHERE s.status = 'requested'",
        list(orders),
        now,
    )
    return _to_shipments(
        await uow.fetch(f"SELECT {_SHIPMENT_COLUMNS} FROM shipment WHERE order_id = ANY($1)", list(orders))
    )


async def claim_due_pickups(database: Database, lease: datetime, now: datetime, limit: int) -> list[UUID]:
    """Shipments whose pick-up is due, marked before the carrier is called: from here on they can't be stopped."""
    rows = await database.fetch(
        "UPDATE shipment SET status = 'booking', due_at = $2 WHERE order_id IN (SELECT order_id FROM shipment"
        " WHERE status IN ('requested', 'booking') AND due_at <= $1 ORDER BY due_at LIMIT $3"
        " FOR UPDATE SKIP LOCKED) RETURNING order_id",
        now,
        lease,
        limit,
    )
    return [row[0] for row in rows]


async def mark_shipped(
    uow: UnitOfWork, bookings: Sequence[tuple[UUID, str, str]], due_at: datetime, now: datetime
) -> list[Shipment]:
    """The shipments that the carrier has now, and had not before."""
    rows = await uow.fetch(
        "WITH booked AS (SELECT t.* FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t(o, c, n)"
        " JOIN shipment s ON s.order_id = t.o"
        " WHERE s.status = 'booking' ORDER BY t.o FOR UPDATE OF s)"
        " UPDATE shipment SET status = 'shipped', carrier = c, tracking_number = n, due_at = $4, shipped_at = $5"
        " FROM booked WHERE order_id = o"
        f" RETURNING {_SHIPMENT_COLUMNS}",
        *(list(column) for column in zip(*bookings, strict=True)),
        due_at,
        now,
    )
    return _to_shipments(rows)


async def claim_in_transit(database: Database, lease: datetime, now: datetime, limit: int) -> list[Shipment]:
    """Shipments that may have arrived; `lease` keeps other replicas from asking about them meanwhile."""
    rows = await database.fetch(
        "UPDATE shipment SET due_at = $2 WHERE order_id IN (SELECT order_id FROM shipment"
        " WHERE status = 'shipped' AND due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)"
        f" RETURNING {_SHIPMENT_COLUMNS}",
        now,
        lease,
        limit,
    )
    return _to_shipments(rows)


async def mark_delivered(uow: UnitOfWork, orders: Collection[UUID], now: datetime) -> set[UUID]:
    """The shipments that have arrived now, and had not before."""
    rows = await uow.fetch(
        "UPDATE shipment SET status = 'delivered', due_at = NULL, delivered_at = $2 WHERE order_id IN"
        " (SELECT order_id FROM shipment WHERE order_id = ANY($1) AND status = 'shipped' ORDER BY order_id"
        " FOR UPDATE) RETURNING order_id",
        list(orders),
        now,
    )
    return {row[0] for row in rows}


async def find_shipment(database: Database, order_id: UUID) -> asyncpg.Record | None:
    return await database.fetchrow(
        "SELECT order_id, status, carrier, tracking_number, parcels, requested_at, shipped_at, delivered_at,"
        " cancelled_at"
        " FROM shipment WHERE order_id = $1",
        order_id,
    )


def _to_shipments(rows: Sequence[asyncpg.Record]) -> list[Shipment]:
    return [Shipment(**{**row, "parcels": orjson.loads(row["parcels"])}) for row in rows]
