"""The queries of watches, of the available units that they wait for, and of the alerts that end them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy import bindparam, delete
from sqlalchemy.dialects.postgresql import insert

from caravan.database import UnitOfWork
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.catalog.model import Product
from services.catalog.tables import Alert, Watch


class WatchStart(NamedTuple):
    """Since when a user watches a product, and what it cost then."""

    since: datetime
    price: int
    currency: str


_INSERT = insert(Watch)
_INSERT_WATCH = Query(
    _INSERT.on_conflict_do_update(index_elements=["sku", "user_id"], set_={"email": _INSERT.excluded.email}).returning(
        *list_columns(Watch, WatchStart)
    ),
    WatchStart,
)
_DELETE_WATCH = Query(
    delete(Watch).where(col(Watch.sku) == bindparam("sku"), col(Watch.user_id) == bindparam("user_id"))
)
_DELETE_ALERT = Query(delete(Alert).where(col(Alert.sku) == bindparam("sku"), col(Alert.kind) == bindparam("kind")))


async def insert_watch(
    uow: UnitOfWork, identifier: UUID, product: Product, user_id: UUID, email: str, now: datetime
) -> WatchStart:
    """One that the user has already stays as it began, with the new e-mail."""
    start = await _INSERT_WATCH.fetch_one(
        uow,
        id=identifier,
        sku=product.sku,
        user_id=user_id,
        email=email,
        since=now,
        price=product.price.amount,
        currency=product.price.currency,
    )
    assert start is not None
    return start


async def delete_watch(uow: UnitOfWork, sku: str, user_id: UUID) -> None:
    await _DELETE_WATCH.execute(uow, sku=sku, user_id=user_id)


async def record_available_units(uow: UnitOfWork, units: Mapping[str, tuple[int, int]]) -> list[str]:
    """Store the available units and stock version of each sku. Returns those that had none before and have some now."""
    rows = await uow.fetch(
        """
        WITH stock AS (SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS n(sku, units, stock_version)
            ORDER BY sku),
        before AS (SELECT a.* FROM available a JOIN stock USING (sku)),
        written AS (
            INSERT INTO available (sku, units, stock_version) SELECT * FROM stock
            ON CONFLICT (sku) DO UPDATE SET units = EXCLUDED.units, stock_version = EXCLUDED.stock_version
                WHERE available.stock_version < EXCLUDED.stock_version
            RETURNING sku, units
        )
        SELECT w.sku FROM written w LEFT JOIN before b USING (sku) WHERE w.units > 0 AND coalesce(b.units, 0) <= 0
        """,
        list(units),
        [available for available, _ in units.values()],
        [version for _, version in units.values()],
    )
    return [row["sku"] for row in rows]


async def raise_back_in_stock(uow: UnitOfWork, skus: Collection[str], now: datetime) -> int:
    """Note that these are back, where somebody watches; how many."""
    return await uow.execute(
        "INSERT INTO alert (sku, kind, raised_at) SELECT sku, 'back_in_stock', $2 FROM product p"
        " WHERE sku = ANY($1) AND active AND EXISTS (SELECT FROM watch w WHERE w.sku = p.sku) ORDER BY sku"
        " ON CONFLICT (sku, kind) DO UPDATE SET raised_at = EXCLUDED.raised_at",
        list(skus),
        now,
    )


async def raise_price_drops(uow: UnitOfWork, products: Sequence[Product], now: datetime) -> int:
    """Note that these cost less than when somebody began to watch them, in the same currency; how many."""
    return await uow.execute(
        "INSERT INTO alert (sku, kind, raised_at) SELECT sku, 'price_drop', $4"
        " FROM unnest($1::text[], $2::bigint[], $3::text[]) AS n(sku, price, currency)"
        " WHERE EXISTS (SELECT FROM watch w WHERE w.sku = n.sku AND w.currency = n.currency"
        " AND w.price > n.price) ORDER BY sku"
        " ON CONFLICT (sku, kind) DO UPDATE SET raised_at = EXCLUDED.raised_at",
        [product.sku for product in products],
        [product.price.amount for product in products],
        [product.price.currency for product in products],
        now,
    )


async def lock_oldest_alert(uow: UnitOfWork) -> asyncpg.Record | None:
    """The oldest alert, locked."""
    return await uow.fetchrow(
        "SELECT sku, kind, raised_at FROM alert ORDER BY raised_at LIMIT 1 FOR UPDATE SKIP LOCKED"
    )


async def end_watches(uow: UnitOfWork, alert: asyncpg.Record, limit: int) -> list[asyncpg.Record]:
    """Those who watched the product when the alert was raised and for whom it is still true, with the product as it is
    now; their watches are over.
    """
    return await uow.fetch(
        """
        WITH notified AS (
            SELECT w.id FROM watch w JOIN product p USING (sku) LEFT JOIN available a USING (sku)
            WHERE sku = $1 AND w.since <= $3 AND p.active
            AND CASE WHEN $2 = 'price_drop' THEN w.currency = p.currency AND w.price > p.price ELSE a.units > 0 END
            ORDER BY w.id LIMIT $4 FOR UPDATE OF w
        )
        DELETE FROM watch w USING notified, product p WHERE w.id = notified.id AND p.sku = w.sku
        RETURNING w.id, w.user_id, w.email, w.price AS watched_at, p.name, p.price, p.currency
        """,
        alert["sku"],
        alert["kind"],
        alert["raised_at"],
        limit,
    )


async def delete_alert(uow: UnitOfWork, sku: str, kind: str) -> None:
    await _DELETE_ALERT.execute(uow, sku=sku, kind=kind)
