"""Reads the books of inventory: what the movements of a product add up to, against its row; and what orders hold."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from services.reconciliation.store.books import Books


class StockSums(NamedTuple):
    """Of a product, up to a version: the number of its movements."""

    version: int = 0
    on_hand: int = 0
    reserved: int = 0
    shipped: int = 0
    received: int = 0
    adjusted: int = 0


class StockComparison(NamedTuple):
    sku: str
    row: StockSums
    sums: StockSums
    """Of its movements."""


_ROWS = (
    "SELECT sku, version, on_hand, reserved, shipped, received, adjusted FROM stock"
    " WHERE sku > $1 ORDER BY sku LIMIT $2"
)
# One statement sees one moment: the row of a product and its movements were written together.
_COMPARE = """
    SELECT s.sku, s.version, s.on_hand, s.reserved, s.shipped, s.received, s.adjusted,
        m.moved, m.on_hand_moved, m.reserved_moved, m.shipped_moved, m.received_moved, m.adjusted_moved
    FROM unnest($1::text[], $2::bigint[]) AS asked(sku, version)
    JOIN stock s ON s.sku = asked.sku
    JOIN LATERAL (
        SELECT count(*) AS moved,
            coalesce(sum(CASE WHEN kind IN ('receive', 'adjust', 'count', 'return') THEN quantity
                WHEN kind = 'ship' THEN -quantity ELSE 0 END), 0)::bigint AS on_hand_moved,
            coalesce(sum(CASE kind WHEN 'reserve' THEN quantity WHEN 'release' THEN -quantity
                WHEN 'ship' THEN -quantity ELSE 0 END), 0)::bigint AS reserved_moved,
            coalesce(sum(CASE kind WHEN 'ship' THEN quantity WHEN 'return' THEN -quantity ELSE 0 END), 0)::bigint
                AS shipped_moved,
            coalesce(sum(quantity) FILTER (WHERE kind = 'receive'), 0)::bigint AS received_moved,
            coalesce(sum(quantity) FILTER (WHERE kind IN ('adjust', 'count')), 0)::bigint AS adjusted_moved
        FROM movement WHERE movement.sku = asked.sku AND movement.version > asked.version
    ) m ON true
"""
_HELD = """
    WITH held AS (
        SELECT line.key AS sku, sum(line.value::bigint)::bigint AS units
        FROM reservation r, json_each_text(r.lines) AS line WHERE r.state = 'held' GROUP BY line.key
    )
    SELECT coalesce(s.sku, held.sku) AS sku, coalesce(s.reserved, 0) AS reserved, coalesce(held.units, 0) AS held
    FROM stock s FULL JOIN held ON held.sku = s.sku
    WHERE coalesce(s.reserved, 0) <> coalesce(held.units, 0)
"""


async def list_rows(books: Books, after: str, limit: int) -> dict[str, StockSums]:
    """The next products, in order."""
    return {row[0]: StockSums(*list(row.values())[1:]) for row in await books.fetch("inventory", _ROWS, after, limit)}


async def compare_stock(books: Books, skus: Sequence[str], checked: Mapping[str, StockSums]) -> list[StockComparison]:
    """The row of each product against what its movements add up to; those up to its checked version are not read."""
    starts = [checked.get(sku, StockSums()) for sku in skus]
    rows = await books.fetch("inventory", _COMPARE, list(skus), [start.version for start in starts])
    by_sku = dict(zip(skus, starts, strict=True))
    return [
        StockComparison(
            row["sku"],
            StockSums(*list(row.values())[1:7]),
            StockSums(*(a + b for a, b in zip(by_sku[row["sku"]], list(row.values())[7:], strict=True))),
        )
        for row in rows
    ]


async def list_held_differently(books: Books) -> list[tuple[str, int, int]]:
    """Products of which not as many units are reserved as orders hold: sku, reserved, held."""
    return [tuple(row) for row in await books.fetch("inventory", _HELD)]
