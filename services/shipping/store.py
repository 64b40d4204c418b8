"""The queries of shipping. Rows of several orders are locked in the order of their ids."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import bindparam, select, update

from caravan.database import Database, UnitOfWork
from caravan.database.conditions import is_among
from caravan.database.query import Query, Upsert
from caravan.database.tables import col, list_columns, list_fields
from caravan.messages import Delivery
from services.shipping import tables
from services.shipping.messages import ShipmentStatus, ShipOrder
from services.shipping.model import Shipment


class ShipmentRow(NamedTuple):
    """What is told of a shipment, and for whose command it was made; `parcels` is JSON."""

    order_id: UUID
    status: ShipmentStatus
    carrier: str
    tracking_number: str
    parcels: str
    actor: str | None
    traceparent: str | None
    cause: UUID | None
    requested_at: datetime
    shipped_at: datetime | None
    delivered_at: datetime | None
    cancelled_at: datetime | None


_SHIPMENT_COLUMNS = ", ".join(list_fields(Shipment))
_IS_AMONG_ORDERS = is_among(col(tables.Shipment.order_id), "orders")

_INSERT: Upsert[Delivery[ShipOrder]] = Upsert(
    tables.Shipment,
    {
        "order_id": lambda command: command.message.order_id,
        "email": lambda command: command.message.email,
        "recipient": lambda command: command.message.recipient,
        "address": lambda command: command.message.address,
        "parcels": lambda command: orjson.dumps([p.model_dump() for p in command.message.parcels]).decode(),
        "traceparent": lambda command: command.traceparent,
        "actor": lambda command: command.actor,
        "cause": lambda command: command.id,
    },
    shared=("status", "due_at", "requested_at"),
    changes=(),
)
_CANCEL: Upsert[UUID] = Upsert(
    tables.Shipment,
    {"order_id": lambda order_id: order_id},
    shared=("status", "due_at", "requested_at", "cancelled_at"),
    changes=("status", "due_at", "cancelled_at"),
    condition="shipment.status = 'requested'",
)
_FIND_ALL = Query(select(*list_columns(tables.Shipment, Shipment)).where(_IS_AMONG_ORDERS), Shipment)
_FIND = Query(
    select(*list_columns(tables.Shipment, ShipmentRow)).where(col(tables.Shipment.order_id) == bindparam("order_id")),
    ShipmentRow,
)
_MARK_DELIVERED = Query(
    update(tables.Shipment)
    .where(
        col(tables.Shipment.order_id).in_(
            select(col(tables.Shipment.order_id))
            .where(_IS_AMONG_ORDERS, col(tables.Shipment.status) == "shipped")
            .order_by(col(tables.Shipment.order_id))
            .with_for_update()
        )
    )
    .values(status="delivered", due_at=None, delivered_at=bindparam("now"))
    .returning(col(tables.Shipment.order_id)),
    UUID,
)


async def insert_shipments(
    uow: UnitOfWork, commands: Sequence[Delivery[ShipOrder]], due_at: datetime, now: datetime
) -> None:
    """New shipments; an order that has one, or was cancelled, keeps what it has."""
    ordered = sorted(commands, key=lambda command: command.message.order_id)
    await _INSERT.execute(uow, ordered, status="requested", due_at=due_at, requested_at=now)


async def cancel_shipments(uow: UnitOfWork, orders: Collection[UUID], now: datetime) -> list[Shipment]:
    """Stop what the carrier has not been called for, remember what has never been asked for, and say how each
    stands.
    """
    await _CANCEL.execute(uow, sorted(orders), status="cancelled", due_at=None, requested_at=now, cancelled_at=now)
    return await _FIND_ALL.fetch_all(uow, orders=list(orders))


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
    return [Shipment(*row) for row in rows]


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
    return [Shipment(*row) for row in rows]


async def mark_delivered(uow: UnitOfWork, orders: Collection[UUID], now: datetime) -> set[UUID]:
    """The shipments that have arrived now, and had not before."""
    return set(await _MARK_DELIVERED.fetch_values(uow, orders=list(orders), now=now))


async def find_shipment(database: Database, order_id: UUID) -> ShipmentRow | None:
    return await _FIND.fetch_one(database, order_id=order_id)
