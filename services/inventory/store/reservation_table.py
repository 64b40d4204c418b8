"""Reservations: found, locked, released before they were made, and freed of their expiry.

`stock_changes.py` saves what a use case made of them.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from caravan.database import UnitOfWork
from services.inventory.messages import Shortage
from services.inventory.model import Reservation

RESERVATION_COLUMNS = "order_id, state, lines, shortages, reason, expires_at, created_at, updated_at"


async def find_reservations(uow: UnitOfWork, orders: Collection[UUID]) -> dict[UUID, Reservation]:
    rows = await uow.fetch(f"SELECT {RESERVATION_COLUMNS} FROM reservation WHERE order_id = ANY($1)", list(orders))
    return {row["order_id"]: _to_reservation(row) for row in rows}


async def lock_reservations(uow: UnitOfWork, orders: Collection[UUID]) -> dict[UUID, Reservation]:
    rows = await uow.fetch(
        f"SELECT {RESERVATION_COLUMNS} FROM reservation WHERE order_id = ANY($1) ORDER BY order_id FOR UPDATE",
        list(orders),
    )
    return {row["order_id"]: _to_reservation(row) for row in rows}


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
    rows = await uow.fetch(
        f"SELECT {RESERVATION_COLUMNS} FROM reservation WHERE state = 'held' AND expires_at <= $1"
        " ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return [_to_reservation(row) for row in rows]


async def clear_expiry(uow: UnitOfWork, orders: Collection[UUID]) -> None:
    """These are paid: what is held for them does not expire any more."""
    await uow.execute(
        "UPDATE reservation SET expires_at = NULL WHERE order_id IN"
        " (SELECT order_id FROM reservation WHERE order_id = ANY($1) AND state = 'held'"
        " AND expires_at IS NOT NULL ORDER BY order_id FOR UPDATE)",
        list(orders),
    )


def _to_reservation(row: asyncpg.Record) -> Reservation:
    return Reservation(
        row["order_id"],
        row["state"],
        orjson.loads(row["lines"]),
        row["created_at"],
        row["updated_at"],
        [Shortage(**shortage) for shortage in orjson.loads(row["shortages"])],
        row["reason"],
        row["expires_at"],
    )
