"""The queries for candidates: only products that are in the catalogue and in stock now."""

from collections.abc import Collection, Sequence
from uuid import UUID

from caravan.database import Database
from services.recommendations.model import Candidate, Product, PurchasedSku

MAX_ORDERS = 200
MAX_SKUS = 2000
"""Of a user's history the last orders are looked at, and of these at most so many skus."""
IS_BUYABLE = "p.active AND p.available > 0"


async def find_history(database: Database, user_id: UUID) -> list[PurchasedSku]:
    """A user's skus: in how many purchases, when last, and when last ordered if that order still stands."""
    rows = await database.fetch(
        "WITH recent AS (SELECT skus, placed_at, counted, coalesce(outcome = 'completed', true)"
        " AND NOT cancelled AS held FROM purchase"
        " WHERE user_id = $1 AND skus IS NOT NULL ORDER BY placed_at DESC LIMIT $2)"
        " SELECT sku, count(*) FILTER (WHERE counted) AS times, max(placed_at) FILTER (WHERE counted) AS bought_at,"
        " max(placed_at) FILTER (WHERE held) AS held_at FROM recent, unnest(skus) AS sku GROUP BY sku"
        " ORDER BY max(placed_at) DESC, sku LIMIT $3",
        user_id,
        MAX_ORDERS,
        MAX_SKUS,
    )
    return [PurchasedSku(**row) for row in rows]


async def find_products(database: Database, skus: Collection[str]) -> dict[str, Product]:
    """Those of the skus that the catalogue has described."""
    rows = await database.fetch(
        f"SELECT sku, name, category, active, {IS_BUYABLE} AS buyable FROM product p"
        " WHERE sku = ANY($1) AND product_version > 0",
        list(skus),
    )
    return {row["sku"]: Product(**row) for row in rows}


async def find_bought_together(
    database: Database, seeds: Sequence[str], excluded: Collection[str], minimum: int, limit: int
) -> list[Candidate]:
    """Most often bought with any of the seeds; `because` is the seed that it was most often bought with."""
    rows = await database.fetch(
        "WITH beside AS (SELECT sku AS seed, other AS sku, orders FROM pair WHERE sku = ANY($1) AND orders >= $3"
        " UNION ALL SELECT other, sku, orders FROM pair WHERE other = ANY($1) AND orders >= $3)"
        " SELECT b.sku, p.name, (array_agg(seed ORDER BY orders DESC, seed))[1] AS because FROM beside b"
        " JOIN product p USING (sku)"
        f" WHERE {IS_BUYABLE} AND b.sku <> ALL($2) GROUP BY b.sku, p.name ORDER BY sum(orders) DESC, b.sku LIMIT $4",
        list(seeds),
        list(excluded),
        minimum,
        limit,
    )
    return [Candidate(**row) for row in rows]


async def find_popular_in_categories(
    database: Database, categories: Sequence[str], excluded: Collection[str], limit: int
) -> list[Candidate]:
    """Most often bought in these categories, the first category first."""
    rows = await database.fetch(
        "SELECT p.sku, p.name, p.category AS because FROM sold s JOIN product p USING (sku)"
        f" WHERE {IS_BUYABLE} AND s.orders > 0 AND p.category = ANY($1) AND p.sku <> ALL($2)"
        " ORDER BY array_position($1, p.category), s.orders DESC, p.sku LIMIT $3",
        list(categories),
        list(excluded),
        limit,
    )
    return [Candidate(**row) for row in rows]


async def find_popular(database: Database, excluded: Collection[str], limit: int) -> list[Candidate]:
    """Most often bought of all."""
    rows = await database.fetch(
        "SELECT p.sku, p.name, NULL AS because FROM sold s JOIN product p USING (sku)"
        f" WHERE {IS_BUYABLE} AND s.orders > 0 AND p.sku <> ALL($1) ORDER BY s.orders DESC, p.sku LIMIT $2",
        list(excluded),
        limit,
    )
    return [Candidate(**row) for row in rows]
