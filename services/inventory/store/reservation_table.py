"""Reservations: found, locked, released before they were made, and freed of their expiry.

`stock_changes.py` saves what a use case made of them.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import bindparam, select, update

from caravan.database import UnitOfWork
from caravan.database.conditions import is_among
from caravan.database.query import Query, StatementExecutor
from caravan.database.tables import col, list_fields, select_columns
from services.inventory import tables
from services.inventory.messages import Shortage
from services.inventory.model import Reservation

_FIELDS = list_fields(Reservation)


def _build_reservation(*columns: Any) -> Reservation:
    values = dict(zip(_FIELDS, columns, strict=True))
    values["lines"] = orjson.loads(values["lines"])
    values["shortages"] = [Shortage(**shortage) for shortage in orjson.loads(values["shortages"])]
    return Reservation(**values)


_ORDER_ID, _EXPIRES_AT = col(tables.Reservation.order_id), col(tables.Reservation.expires_at)
_IS_HELD = col(tables.Reservation.state) == "held"
_BY_ORDERS = is_among(col(tables.Reservation.order_id), "orders")
_SELECT = select(*select_columns(tables.Reservation, _FIELDS))
_FIND = Query(_SELECT.where(_BY_ORDERS), _build_reservation)
_LOCK = Query(_SELECT.where(_BY_ORDERS).order_by(_ORDER_ID).with_for_update(), _build_reservation)
_LOCK_EXPIRED = Query(
    _SELECT.where(_IS_HELD, col(tables.Reservation.expires_at) <= bindparam("now"))
    .order_by(_EXPIRES_AT)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True),
    _build_reservation,
)
_CLEAR_EXPIRY = Query(
    update(tables.Reservation)
    .where(
        _ORDER_ID.in_(
            select(_ORDER_ID)
            .where(_BY_ORDERS, _IS_HELD, _EXPIRES_AT.is_not(None))
            .order_by(_ORDER_ID)
            .with_for_update()
        )
    )
    .values(expires_at=None)
)


async def find_reservations(executor: StatementExecutor, orders: Collection[UUID]) -> dict[UUID, Reservation]:
    return {found.order_id: found for found in await _FIND.fetch_all(executor, orders=list(orders))}


async def lock_reservations(uow: UnitOfWork, orders: Collection[UUID]) -> dict[UUID, Reservation]:
    return {found.order_id: found for found in await _LOCK.fetch_all(uow, orders=list(orders))}


async def insert_released_reservations(uow: UnitOfWork, reasons: Mapping[UUID, str], now: datetime) -> None:
    """Empty, released reservations for orders that have none. It waits for one that is being made at this moment, and
    leaves it as it is.
    """
    await uow.execute(
        "INSERT INTO reservation (order_id, state, lines, shortages, reason, created_at, updated_at)"
        " SELECT o, 'released', '{}', '[]', r, $3, $3 FROM unnest($1::uuid[], $2::text[]) AS n(o, r)"
        " ORDER BY o ON CONFLICT DO NOTHING",
        list(reasons),
        list(reasons.values()),
        now,
    )


async def lock_expired_reservations(uow: UnitOfWork, now: datetime, limit: int) -> list[Reservation]:
    return await _LOCK_EXPIRED.fetch_all(uow, now=now, limit=limit)


async def clear_expiry(uow: UnitOfWork, orders: Collection[UUID]) -> None:
    """These are paid: what is held for them does not expire any more."""
    await _CLEAR_EXPIRY.execute(uow, orders=list(orders))
