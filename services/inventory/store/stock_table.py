"""Stock and its ledger: rows locked for a batch, movements listed, and the laws that hold between them."""

from collections.abc import Collection
from datetime import datetime

import asyncpg

from caravan.database import Database, UnitOfWork
from services.inventory.model import Stock, StockLedger

STOCK_COLUMNS = "sku, on_hand, reserved, shipped, received, adjusted, version"


async def lock_stock(uow: UnitOfWork, skus: Collection[str]) -> StockLedger:
    """The stock of these skus, locked in their order so that two batches can't wait for each other."""
    if not skus:
        return StockLedger(())
    rows = await uow.fetch(f"SELECT {STOCK_COLUMNS} FROM stock WHERE sku = ANY($1) ORDER BY sku FOR UPDATE", list(skus))
    return StockLedger(Stock(*row) for row in rows)


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
    sku_filter = "sku = ANY($2) AND" if skus is not None else ""
    rows = await uow.fetch(
        f"UPDATE stock SET announced = version WHERE sku IN"
        f" (SELECT sku FROM stock WHERE {sku_filter} announced < version ORDER BY sku LIMIT $1"
        f" FOR UPDATE SKIP LOCKED) RETURNING {STOCK_COLUMNS}",
        limit,
        *([list(skus)] if skus is not None else []),
    )
    return [Stock(*row) for row in rows]


async def find_stock(database: Database, skus: Collection[str]) -> list[Stock]:
    rows = await database.fetch(f"SELECT {STOCK_COLUMNS} FROM stock WHERE sku = ANY($1)", list(skus))
    return [Stock(*row) for row in rows]


async def list_movements(database: Database, sku: str, before: int | None, limit: int) -> list[asyncpg.Record]:
    """The movements of a sku, newest first."""
    return await database.fetch(
        "SELECT sku, version, kind, quantity, on_hand, reserved, order_id, actor, reason, time FROM movement"
        " WHERE sku = $1 AND ($2::bigint IS NULL OR version < $2) ORDER BY version DESC LIMIT $3",
        sku,
        before,
        limit,
    )


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
