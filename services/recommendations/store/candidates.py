"""The queries for candidates: only products that are in the catalogue and in stock now."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, all_, bindparam, func, literal_column, null, select

from caravan.database import Database
from caravan.database import tables as sql
from caravan.database.conditions import is_among
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.recommendations import tables
from services.recommendations.model import Candidate, Product, PurchasedSku
from services.recommendations.store.history import ALL_ORDERS

MAX_ORDERS = 200
MAX_SKUS = 2000
"""Of a user's history the last orders are looked at, and of these at most so many skus."""
_BUYABLE = "product.active AND product.available > 0"
"""The rule as the statements in text have it; the declared ones take it as `_IS_BUYABLE`."""

_SKU, _CATEGORY = col(tables.Product.sku), col(tables.Product.category)
_IS_BUYABLE: ColumnElement[bool] = literal_column(_BUYABLE, sql.BOOLEAN)
_CATEGORIES = bindparam("categories", type_=sql.ARRAY(sql.TEXT))
_FIND_PRODUCTS = Query(
    select(*list_columns(tables.Product, Product, buyable=_IS_BUYABLE)).where(
        is_among(_SKU, "skus"), col(tables.Product.product_version) > 0
    ),
    Product,
)
_POPULAR = (
    select(_SKU, col(tables.Product.name))
    .join(tables.Sold, col(tables.Sold.sku) == _SKU)
    .where(
        _IS_BUYABLE,
        col(tables.Sold.orders) > 0,
        col(tables.Product.sku) != all_(bindparam("excluded", type_=sql.ARRAY(sql.TEXT))),
    )
    .limit(bindparam("limit"))
)
_FIND_POPULAR_IN_CATEGORIES = Query(
    _POPULAR.add_columns(_CATEGORY)
    .where(is_among(_CATEGORY, "categories"))
    .order_by(func.array_position(_CATEGORIES, _CATEGORY), col(tables.Sold.orders).desc(), _SKU),
    Candidate,
)
_FIND_POPULAR = Query(_POPULAR.add_columns(null()).order_by(col(tables.Sold.orders).desc(), _SKU), Candidate)


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
    return {product.sku: product for product in await _FIND_PRODUCTS.fetch_all(database, skus=list(skus))}


async def find_bought_together(
    database: Database, seeds: Sequence[str], excluded: Collection[str], minimum: int, limit: int
) -> list[Candidate]:
    """What goes best with the seeds: each pair weighs as its cosine, and those of a candidate add up. `because` is the
    seed whose pair weighs most; support, confidence and lift are that pair's.

    A plain count would rank what sells anyway before what belongs together, and a lift what was bought once.
    """
    rows = await database.fetch(
        "WITH beside AS (SELECT sku AS seed, other AS sku, orders FROM pair WHERE sku = ANY($1) AND orders >= $3"
        " UNION ALL SELECT other, sku, orders FROM pair WHERE other = ANY($1) AND orders >= $3),"
        " weighed AS (SELECT beside.sku, seed, beside.orders / sqrt(of_seed.orders * of_sku.orders) AS weight,"
        " beside.orders / all_orders.orders::float8 AS support, beside.orders / of_seed.orders::float8 AS confidence,"
        " beside.orders * all_orders.orders / (of_seed.orders * of_sku.orders)::float8 AS lift"
        " FROM beside JOIN sold AS of_seed ON of_seed.sku = seed JOIN sold AS of_sku ON of_sku.sku = beside.sku"
        f" JOIN sold AS all_orders ON all_orders.sku = '{ALL_ORDERS}'"
        " WHERE beside.sku <> ALL($2) AND of_seed.orders > 0 AND of_sku.orders > 0 AND all_orders.orders > 0),"
        " best AS (SELECT DISTINCT ON (sku) *, sum(weight) OVER (PARTITION BY sku) AS total FROM weighed"
        " ORDER BY sku, weight DESC, seed)"
        " SELECT sku, product.name, seed AS because, round(support::numeric, 4)::float8 AS support,"
        " round(confidence::numeric, 4)::float8 AS confidence, round(lift::numeric, 2)::float8 AS lift"
        f" FROM best JOIN product USING (sku) WHERE {_BUYABLE} ORDER BY total DESC, sku LIMIT $4",
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
    return await _FIND_POPULAR_IN_CATEGORIES.fetch_all(
        database, categories=list(categories), excluded=list(excluded), limit=limit
    )


async def find_popular(database: Database, excluded: Collection[str], limit: int) -> list[Candidate]:
    """Most often bought of all."""
    return await _FIND_POPULAR.fetch_all(database, excluded=list(excluded), limit=limit)
