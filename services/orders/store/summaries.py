"""The order summaries as the API and other services read them; `projection.py` writes them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from caravan.database import Database

SUMMARY_COLUMNS = (
    "id, user_id, total, currency, lines, shipping_address, placed_at, status, version, cancelling, cancellation,"
    " cancellation_reason, reason, invoice_number, tracking_number, refunded, updated_at"
)


async def find_summary(read: Database, order_id: UUID) -> asyncpg.Record | None:
    return await read.fetchrow(f"SELECT {SUMMARY_COLUMNS} FROM order_summary WHERE id = $1", order_id)


async def find_owner(read: Database, order_id: UUID) -> UUID | None:
    user_id: UUID | None = await read.fetchval("SELECT user_id FROM order_summary WHERE id = $1", order_id)
    return user_id


async def list_orders(
    read: Database, user_id: UUID | None, status: str | None, after: Sequence[Any] | None, limit: int
) -> list[asyncpg.Record]:
    """Newest first; `after` is the (placed_at, id) of the last one seen."""
    return await read.fetch(
        "SELECT id, user_id, total, currency, placed_at, status, version, updated_at FROM order_summary"
        " WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::text IS NULL OR status = $2)"
        " AND ($3::timestamptz IS NULL OR (placed_at, id) < ($3, $4::uuid)) ORDER BY placed_at DESC, id DESC LIMIT $5",
        user_id,
        status,
        after[0] if after else None,
        after[1] if after else None,
        limit,
    )


async def count_by_status(read: Database) -> dict[str, int]:
    return {row[0]: row[1] for row in await read.fetch("SELECT status, count(*) FROM order_summary GROUP BY status")}
