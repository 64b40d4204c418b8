"""The rows of products and categories, and the search over them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from caravan.database import Database, UnitOfWork
from caravan.money import Money
from services.catalog.model import Category, Product, build_prefix_query, fold_accents, sanitize_search

PRODUCT_COLUMNS = (
    "sku, name, description, category, price, currency, attributes, active, version, created_at, updated_at"
)


def _to_product(row: asyncpg.Record) -> Product:
    return Product(
        sku=row["sku"],
        name=row["name"],
        description=row["description"],
        category=row["category"],
        price=Money(amount=row["price"], currency=row["currency"]),
        attributes=orjson.loads(row["attributes"]),
        active=row["active"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def find_offers(database: Database, skus: Collection[str]) -> list[asyncpg.Record]:
    return await database.fetch(
        "SELECT sku, name, category, price, currency FROM product WHERE sku = ANY($1) AND active", list(skus)
    )


async def find_product(database: Database, sku: str) -> Product | None:
    row = await database.fetchrow(f"SELECT {PRODUCT_COLUMNS} FROM product WHERE sku = $1", sku)
    return _to_product(row) if row else None


async def lock_products(uow: UnitOfWork, skus: Collection[str]) -> dict[str, Product]:
    rows = await uow.fetch(
        f"SELECT {PRODUCT_COLUMNS} FROM product WHERE sku = ANY($1) ORDER BY sku FOR UPDATE", list(skus)
    )
    return {row["sku"]: _to_product(row) for row in rows}


async def save_products(uow: UnitOfWork, products: Sequence[Product]) -> int:
    """Write each product over its version before, or as a new one; how many could be written."""
    ordered = sorted(products, key=lambda product: product.sku)
    return await uow.execute(
        f"INSERT INTO product ({PRODUCT_COLUMNS}) SELECT *"
        " FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::jsonb[],"
        " $8::bool[], $9::int[],"
        " $10::timestamptz[], $11::timestamptz[]) ON CONFLICT (sku) DO UPDATE"
        " SET name = EXCLUDED.name, description = EXCLUDED.description, category = EXCLUDED.category,"
        " price = EXCLUDED.price, currency = EXCLUDED.currency, attributes = EXCLUDED.attributes,"
        " active = EXCLUDED.active, version = EXCLUDED.version,"
        " updated_at = EXCLUDED.updated_at WHERE product.version = EXCLUDED.version - 1",
        [p.sku for p in ordered],
        [p.name for p in ordered],
        [p.description for p in ordered],
        [p.category for p in ordered],
        [p.price.amount for p in ordered],
        [p.price.currency for p in ordered],
        [orjson.dumps(p.attributes).decode() for p in ordered],
        [p.active for p in ordered],
        [p.version for p in ordered],
        [p.created_at for p in ordered],
        [p.updated_at for p in ordered],
    )


class ProductFilter(NamedTuple):
    """What a listing is limited to. `attributes`: for each name the documents of which a product must hold one."""

    search: str | None = None
    category: str | None = None
    skus: list[str] | None = None
    attributes: tuple[tuple[dict[str, Any], ...], ...] = ()
    active: bool = True


class SortOrder(NamedTuple):
    expression: str
    type: str
    descending: bool = False


RELEVANCE = "-(ts_rank(search, {query})::float8 + (lower(sku) = lower({text}))::int)"
PRICE = "(currency || lpad(price::text, 19, '0'))"
"""Minor units of two currencies are no measure of each other: products come currency by currency."""
SORT_ORDERS: Mapping[str, SortOrder] = {
    "relevance": SortOrder(RELEVANCE, "float8"),
    "newest": SortOrder("created_at", "timestamptz", descending=True),
    "name": SortOrder("left(name, 60)", "text"),  # so that a cursor stays short
    "price": SortOrder(PRICE, "text"),
    "-price": SortOrder(PRICE, "text", descending=True),
    "sku": SortOrder("sku", "text"),
}


async def search_products(
    database: Database, filters: ProductFilter, sort_key: str, after: tuple[Any, str] | None, limit: int
) -> list[tuple[Product, Any]]:
    """Products with their place in the order, from behind the place `after`: whatever is inserted meanwhile, no product
    comes twice or is left out.
    """
    arguments: list[Any] = []

    def add_argument(value: Any, sql_type: str) -> str:
        arguments.append(value)
        return f"${len(arguments)}::{sql_type}"

    conditions = ["active" if filters.active else "NOT active"]
    sort_order = SORT_ORDERS[sort_key]
    expression = sort_order.expression
    if filters.search is not None:
        folded_search = fold_accents(filters.search)
        query = f"websearch_to_tsquery('english', {add_argument(sanitize_search(folded_search), 'text')})"
        if (prefix_query := build_prefix_query(folded_search)) is not None:
            query = f"({query} || to_tsquery('english', {add_argument(prefix_query, 'text')}))"
        conditions.append(
            f"(search @@ {query} OR lower(sku) LIKE {add_argument(_to_like_prefix(filters.search), 'text')})"
        )
        if sort_key == "relevance":
            expression = expression.replace("{query}", query).replace("{text}", add_argument(filters.search, "text"))
    if filters.category is not None:
        conditions.append(f"category = {add_argument(filters.category, 'text')}")
    if filters.skus is not None:
        conditions.append(f"sku = ANY({add_argument(filters.skus, 'text[]')})")
    for documents in filters.attributes:
        conditions.append(
            "("
            + " OR ".join(
                f"attributes @> {add_argument(orjson.dumps(document).decode(), 'jsonb')}" for document in documents
            )
            + ")"
        )
    if after is not None:
        conditions.append(
            f"({expression}, sku) {'<' if sort_order.descending else '>'} ({add_argument(after[0], sort_order.type)},"
            f" {add_argument(after[1], 'text')})"
        )
    direction = "DESC" if sort_order.descending else "ASC"
    rows = await database.fetch(
        f"SELECT {PRODUCT_COLUMNS}, {expression} AS sort_value FROM product WHERE {' AND '.join(conditions)}"
        f" ORDER BY {expression} {direction}, sku {direction} LIMIT {limit:d}",
        *arguments,
    )
    return [(_to_product(row), row["sort_value"]) for row in rows]


def _to_like_prefix(text: str) -> str:
    escaped = text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped + "%"


def _to_category(row: asyncpg.Record) -> Category:
    return Category(row["name"], orjson.loads(row["attributes"]), row["free"])


async def find_categories(uow: UnitOfWork, names: Collection[str]) -> dict[str, Category]:
    rows = await uow.fetch("SELECT name, attributes, free FROM category WHERE name = ANY($1)", list(names))
    return {row["name"]: _to_category(row) for row in rows}


async def list_categories(database: Database, after: str | None, limit: int) -> list[tuple[Category, int]]:
    rows = await database.fetch(
        "SELECT name, attributes, free, version FROM category WHERE $1::text IS NULL OR name > $1 ORDER BY name"
        " LIMIT $2",
        after,
        limit,
    )
    return [(_to_category(row), row["version"]) for row in rows]


async def lock_category_version(uow: UnitOfWork, name: str) -> int | None:
    """Its version."""
    version: int | None = await uow.fetchval("SELECT version FROM category WHERE name = $1 FOR UPDATE", name)
    return version


async def save_category(uow: UnitOfWork, category: Category) -> int:
    version: int = await uow.fetchval(
        "INSERT INTO category (name, attributes, free, version) VALUES ($1, $2, $3, 1)"
        " ON CONFLICT (name) DO UPDATE SET attributes = EXCLUDED.attributes, free = EXCLUDED.free,"
        " version = category.version + 1 RETURNING version",
        category.name,
        orjson.dumps(category.attributes).decode(),
        category.free,
    )
    return version


async def insert_watch(
    uow: UnitOfWork, identifier: UUID, product: Product, user_id: UUID, email: str, now: datetime
) -> asyncpg.Record:
    """Since when the user watches the product, and what it cost then."""
    row = await uow.fetchrow(
        "INSERT INTO watch (id, sku, user_id, email, since, price, currency) VALUES ($1, $2, $3, $4, $5, $6, $7)"
        " ON CONFLICT (sku, user_id) DO UPDATE SET email = EXCLUDED.email RETURNING since, price, currency",
        identifier,
        product.sku,
        user_id,
        email,
        now,
        product.price.amount,
        product.price.currency,
    )
    assert row is not None
    return row


async def delete_watch(uow: UnitOfWork, sku: str, user_id: UUID) -> None:
    await uow.execute("DELETE FROM watch WHERE sku = $1 AND user_id = $2", sku, user_id)


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
    await uow.execute("DELETE FROM alert WHERE sku = $1 AND kind = $2", sku, kind)
