"""Stock and its ledger: rows locked for a batch, movements listed, and the laws that hold between them."""

from collections.abc import Collection
from datetime import datetime
from operator import lt

import asyncpg
from sqlalchemy import ColumnElement, bindparam, select, update

from caravan.database import Database, UnitOfWork
from caravan.database.conditions import compare_if_given, is_among
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.inventory import tables
from services.inventory.model import Movement, Stock, StockLedger

_SKU, _VERSION = col(tables.Stock.sku), col(tables.Stock.version)
_BY_SKUS = is_among(col(tables.Stock.sku), "skus")
_STOCK_COLUMNS = list_columns(tables.Stock, Stock)


def _declare_claim(*conditions: ColumnElement[bool]) -> Query[Stock]:
    """Marks stock as announced that is not locked."""
    unannounced = (
        select(_SKU)
        .where(*conditions, col(tables.Stock.announced) < _VERSION)
        .order_by(_SKU)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )
    return Query(
        update(tables.Stock).where(_SKU.in_(unannounced)).values(announced=_VERSION).returning(*_STOCK_COLUMNS), Stock
    )


_FIND = Query(select(*_STOCK_COLUMNS).where(_BY_SKUS), Stock)
_LOCK = Query(select(*_STOCK_COLUMNS).where(_BY_SKUS).order_by(_SKU).with_for_update(), Stock)
_CLAIM = _declare_claim(_BY_SKUS)
_CLAIM_ALL = _declare_claim()
_LIST_MOVEMENTS = Query(
    select(*list_columns(tables.Movement, Movement))
    .where(col(tables.Movement.sku) == bindparam("sku"))
    .where(compare_if_given(col(tables.Movement.version), "before", lt))
    .order_by(col(tables.Movement.version).desc())
    .limit(bindparam("limit")),
    Movement,
)


async def lock_stock(uow: UnitOfWork, skus: Collection[str]) -> StockLedger:
    """The stock of these skus, locked in their order so that two batches can't wait for each other."""
    if not skus:
        return StockLedger(())
    return StockLedger(await _LOCK.fetch_all(uow, skus=list(skus)))


async def create_missing_stock(uow: UnitOfWork, skus: Collection[str]) -> None:
    """An empty row for each sku that has none."""
    await uow.execute("INSERT INTO stock (sku) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", sorted(skus))


async def record_references(uow: UnitOfWork, references: Collection[str], now: datetime) -> set[str]:
    """Those that are new. One that somebody else is recording now is waited for."""
    rows = await uow.fetch(
        "INSERT INTO movement_reference (reference, recorded_at) SELECT r, $2 FROM unnest($1::text[]) AS r ORDER BY r"
        " ON CONFLICT DO NOTHING RETURNING reference",
        list(references),
        now,
    )
    return {row["reference"] for row in rows}


async def claim_unannounced_stock(uow: UnitOfWork, skus: Collection[str] | None, limit: int) -> list[Stock]:
    """Stock that changed since it was last announced, among these skus or all, marked as announced. One that is being
    changed now is left for later.
    """
    if skus is None:
        return await _CLAIM_ALL.fetch_all(uow, limit=limit)
    return await _CLAIM.fetch_all(uow, skus=list(skus), limit=limit)


async def find_stock(database: Database, skus: Collection[str]) -> list[Stock]:
    return await _FIND.fetch_all(database, skus=list(skus))


async def list_movements(database: Database, sku: str, before: int | None, limit: int) -> list[Movement]:
    """The movements of a sku, newest first."""
    return await _LIST_MOVEMENTS.fetch_all(database, sku=sku, before=before, limit=limit)


async def find_violations(database: Database) -> list[asyncpg.Record]:
    """The skus whose numbers break a law, or differ from their ledger or from the reservations held. Empty in a sound
    shop.
    """
    return await database.fetch("""
        WITH booked AS (
            SELECT sku, count(*) AS versions, max(version) AS version,
                coalesce(sum(quantity) FILTER (WHERE kind = 'receive'), 0) AS received,
                coalesce(sum(quantity) FILTER (WHERE kind IN ('adjust', 'count')), 0) AS adjusted,
                coalesce(sum(CASE kind WHEN 'ship' THEN quantity WHEN 'return' THEN -quantity END), 0) AS shipped,
                coalesce(sum(CASE kind WHEN 'reserve' THEN quantity WHEN 'release' THEN -quantity
                    WHEN 'ship' THEN -quantity END), 0) AS reserved
            FROM movement GROUP BY sku
        ), held AS (
            SELECT line.key AS sku, sum(line.value::bigint) AS reserved FROM reservation, json_each_text(lines) AS line
                WHERE state = 'held' GROUP BY line.key
        )
        SELECT s.sku, s.on_hand, s.reserved, s.shipped, s.received, s.adjusted, s.version, b.reserved AS booked,
            h.reserved AS held
        FROM stock s LEFT JOIN booked b USING (sku) LEFT JOIN held h USING (sku)
        WHERE s.on_hand < 0 OR s.reserved < 0 OR s.reserved > s.on_hand
            OR (s.on_hand - s.reserved) + s.reserved + s.shipped <> s.received + s.adjusted
            OR (s.version, s.version, s.received, s.adjusted, s.shipped, s.reserved)
                IS DISTINCT FROM (coalesce(b.versions, 0), coalesce(b.version, 0), coalesce(b.received, 0),
                    coalesce(b.adjusted, 0), coalesce(b.shipped, 0), coalesce(b.reserved, 0))
            OR s.reserved <> coalesce(h.reserved, 0)
        ORDER BY s.sku
    """)
