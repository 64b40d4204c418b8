"""Writes what a batch of messages says, by one or two statements.

A purchase is a row that knows whether it is counted; counters change only when that does. So messages may come in any
order and any number of times. Rows are locked by key, and always in the order purchase, sold, pair, so that two batches
can't wait for each other.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from caravan.database import UnitOfWork

PlacedOrder = tuple[UUID, UUID, str, datetime]
"""Order, user, skus (the most valuable first, a line each), time."""
ALL_ORDERS = ""
"""The sku under which `sold` counts every purchase once, whatever is in it."""
PAIRED_LINES = 20
"""Of an order with more lines only the most valuable ones are paired: 190 pairs at most."""

SETTLE_COUNTS = (
    "WITH changed AS (UPDATE purchase SET counted = NOT counted"
    " WHERE order_id = ANY($1) AND counted <> coalesce(skus IS NOT NULL AND outcome = 'completed'"
    " AND NOT cancelled, false)"
    " RETURNING user_id, skus, CASE WHEN counted THEN 1 ELSE -1 END AS step),"
    " sold_now AS (INSERT INTO sold AS s (sku, orders) SELECT sku, sum(step)"
    f" FROM changed, unnest(array_append(skus, '{ALL_ORDERS}')) AS sku GROUP BY sku ORDER BY sku"
    " ON CONFLICT (sku) DO UPDATE SET orders = s.orders + EXCLUDED.orders),"
    " paired_now AS (INSERT INTO pair AS p (sku, other, orders) SELECT one, two, sum(step)"
    f" FROM changed, unnest(skus[:{PAIRED_LINES}]) AS one, unnest(skus[:{PAIRED_LINES}]) AS two"
    " WHERE one < two GROUP BY one, two ORDER BY one, two"
    " ON CONFLICT (sku, other) DO UPDATE SET orders = p.orders + EXCLUDED.orders)"
    " SELECT user_id FROM changed"
)
"""Count, or stop counting, the purchases of these orders that are not counted as they should be; whose they are."""


async def record_orders(uow: UnitOfWork, orders: Sequence[PlacedOrder]) -> None:
    """Take in new orders; those whose outcome has overtaken them are counted."""
    inserted = await uow.fetch(
        "INSERT INTO purchase AS p (order_id, user_id, skus, placed_at) SELECT DISTINCT ON (o) o, u,"
        " string_to_array(s, E'\\n'), t"
        " FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[]) AS input (o, u, s, t) ORDER BY o"
        " ON CONFLICT (order_id) DO UPDATE SET skus = EXCLUDED.skus, placed_at = EXCLUDED.placed_at"
        " WHERE p.skus IS NULL RETURNING order_id, outcome",
        *_to_columns(orders),
    )
    overtaken = [row["order_id"] for row in inserted if row["outcome"] is not None]
    if overtaken:
        await uow.fetch(SETTLE_COUNTS, overtaken)


async def record_outcomes(uow: UnitOfWork, outcomes: Sequence[tuple[UUID, UUID, str]]) -> None:
    """Orders, users and what came of them: only completed orders are purchases."""
    await uow.execute(
        "INSERT INTO purchase AS p (order_id, user_id, outcome) SELECT DISTINCT ON (o) o, u, r"
        " FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS input (o, u, r) ORDER BY o, r"
        " ON CONFLICT (order_id) DO UPDATE SET outcome = EXCLUDED.outcome WHERE p.outcome IS NULL",
        *_to_columns(outcomes),
    )
    await uow.fetch(SETTLE_COUNTS, [order_id for order_id, _, _ in outcomes])


async def record_cancellations(uow: UnitOfWork, orders: Sequence[tuple[UUID, UUID]]) -> None:
    await uow.execute(
        "INSERT INTO purchase AS p (order_id, user_id, cancelled) SELECT DISTINCT ON (o) o, u, true"
        " FROM unnest($1::uuid[], $2::uuid[]) AS input (o, u)"
        " ORDER BY o ON CONFLICT (order_id) DO UPDATE SET cancelled = true WHERE NOT p.cancelled",
        *_to_columns(orders),
    )
    await uow.fetch(SETTLE_COUNTS, [order_id for order_id, _ in orders])


async def update_products(uow: UnitOfWork, products: Sequence[tuple[str, int, str, str, bool]]) -> bool:
    """Skus with version, name, category and whether they are sold at all; whether any of it was news."""
    rows = await uow.fetch(
        "INSERT INTO product AS p (sku, product_version, name, category, active)"
        ' SELECT DISTINCT ON (s COLLATE "C") s, v, n, c, a FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], '
        "$5::bool[]) AS input (s, v, n, c, a)"
        ' ORDER BY s COLLATE "C", v DESC'
        " ON CONFLICT (sku) DO UPDATE SET product_version = EXCLUDED.product_version, name = EXCLUDED.name,"
        " category = EXCLUDED.category,"
        " active = EXCLUDED.active WHERE p.product_version < EXCLUDED.product_version RETURNING sku",
        *_to_columns(products),
    )
    return bool(rows)


async def update_stock(uow: UnitOfWork, stock: Sequence[tuple[str, int, int]]) -> bool:
    """Skus with stock version and what is available; whether any was sold out, or came back.

    `turned_version` is the version at which that last changed: a statement sees the row before its own change only
    while it makes it.
    """
    rows = await uow.fetch(
        "INSERT INTO product AS p (sku, stock_version, available, turned_version)"
        ' SELECT DISTINCT ON (s COLLATE "C") s, v, a, v FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS input '
        "(s, v, a)"
        ' ORDER BY s COLLATE "C", v DESC'
        " ON CONFLICT (sku) DO UPDATE SET stock_version = EXCLUDED.stock_version, available = EXCLUDED.available,"
        " turned_version ="
        " CASE WHEN (p.available > 0) <> (EXCLUDED.available > 0) THEN EXCLUDED.stock_version ELSE p.turned_version END"
        " WHERE p.stock_version < EXCLUDED.stock_version RETURNING turned_version = stock_version AS turned",
        *_to_columns(stock),
    )
    return any(row["turned"] for row in rows)


def _to_columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
