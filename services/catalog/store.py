"""The rows of products and categories, and the search over them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from caravan.database import Database, UnitOfWork
from caravan.money import Money
from services.catalog.model import Category, Product, fold, plain_search, prefixes

COLUMNS = "sku, name, description, category, price, currency, attributes, active, version, created_at, updated_at"


def _product(row: asyncpg.Record) -> Product:
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


async def offers(database: Database, skus: Collection[str]) -> list[asyncpg.Record]:
    return await database.fetch("SELECT sku, name, category, price, currency FROM product WHERE sku = ANY($1) AND active", list(skus))


async def find(database: Database, sku: str) -> Product | None:
    row = await database.fetchrow(f"SELECT {COLUMNS} FROM product WHERE sku = $1", sku)
    return _product(row) if row else None


async def lock(work: UnitOfWork, skus: Collection[str]) -> dict[str, Product]:
    rows = await work.fetch(f"SELECT {COLUMNS} FROM product WHERE sku = ANY($1) ORDER BY sku FOR UPDATE", list(skus))
    return {row["sku"]: _product(row) for row in rows}


async def save(work: UnitOfWork, products: Sequence[Product]) -> int:
    """Write each product over its version before, or as a new one; how many could be written."""
    ordered = sorted(products, key=lambda product: product.sku)
    return await work.execute(
        f"INSERT INTO product ({COLUMNS}) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::jsonb[], $8::bool[], $9::int[],"
        " $10::timestamptz[], $11::timestamptz[]) ON CONFLICT (sku) DO UPDATE SET name = EXCLUDED.name, description = EXCLUDED.description, category = EXCLUDED.category,"
        " price = EXCLUDED.price, currency = EXCLUDED.currency, attributes = EXCLUDED.attributes, active = EXCLUDED.active, version = EXCLUDED.version,"
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


class Wanted(NamedTuple):
    """What a listing is limited to. `attributes`: for each name the documents of which a product must hold one."""

    search: str | None = None
    category: str | None = None
    skus: list[str] | None = None
    attributes: tuple[tuple[dict[str, Any], ...], ...] = ()
    active: bool = True


class Order(NamedTuple):
    expression: str
    type: str
    falling: bool = False


RELEVANCE = "-(ts_rank(search, {query})::float8 + (lower(sku) = lower({text}))::int)"
PRICE = "(currency || lpad(price::text, 19, '0'))"
"""Minor units of two currencies are no measure of each other: products come currency by currency."""
ORDERS: Mapping[str, Order] = {
    "relevance": Order(RELEVANCE, "float8"),
    "newest": Order("created_at", "timestamptz", falling=True),
    "name": Order("left(name, 60)", "text"),  # so that a cursor stays short
    "price": Order(PRICE, "text"),
    "-price": Order(PRICE, "text", falling=True),
    "sku": Order("sku", "text"),
}


async def page(database: Database, wanted: Wanted, sort: str, after: tuple[Any, str] | None, limit: int) -> list[tuple[Product, Any]]:
    """Products with their place in the order, from behind the place `after`: whatever is inserted meanwhile, no product comes twice or is left out."""
    arguments: list[Any] = []

    def place(value: Any, kind: str) -> str:
        arguments.append(value)
        return f"${len(arguments)}::{kind}"

    conditions = ["active" if wanted.active else "NOT active"]
    order = ORDERS[sort]
    expression = order.expression
    if wanted.search is not None:
        searched = fold(wanted.search)
        query = f"websearch_to_tsquery('english', {place(plain_search(searched), 'text')})"
        if (words := prefixes(searched)) is not None:
            query = f"({query} || to_tsquery('english', {place(words, 'text')}))"
        conditions.append(f"(search @@ {query} OR lower(sku) LIKE {place(_prefix(wanted.search), 'text')})")
        if sort == "relevance":
            expression = expression.replace("{query}", query).replace("{text}", place(wanted.search, "text"))
    if wanted.category is not None:
        conditions.append(f"category = {place(wanted.category, 'text')}")
    if wanted.skus is not None:
        conditions.append(f"sku = ANY({place(wanted.skus, 'text[]')})")
    for documents in wanted.attributes:
        conditions.append(
            "(" + " OR ".join(f"attributes @> {place(orjson.dumps(document).decode(), 'jsonb')}" for document in documents) + ")"
        )
    if after is not None:
        conditions.append(f"({expression}, sku) {'<' if order.falling else '>'} ({place(after[0], order.type)}, {place(after[1], 'text')})")
    falling = "DESC" if order.falling else "ASC"
    rows = await database.fetch(
        f"SELECT {COLUMNS}, {expression} AS place FROM product WHERE {' AND '.join(conditions)} ORDER BY {expression} {falling}, sku {falling} LIMIT {limit:d}",
        *arguments,
    )
    return [(_product(row), row["place"]) for row in rows]


def _prefix(text: str) -> str:
    escaped = text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped + "%"


def _category(row: asyncpg.Record) -> Category:
    return Category(row["name"], orjson.loads(row["attributes"]), row["free"])


async def categories(work: UnitOfWork, names: Collection[str]) -> dict[str, Category]:
    rows = await work.fetch("SELECT name, attributes, free FROM category WHERE name = ANY($1)", list(names))
    return {row["name"]: _category(row) for row in rows}


async def category_page(database: Database, after: str | None, limit: int) -> list[tuple[Category, int]]:
    rows = await database.fetch(
        "SELECT name, attributes, free, version FROM category WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2", after, limit
    )
    return [(_category(row), row["version"]) for row in rows]


async def lock_category(work: UnitOfWork, name: str) -> int | None:
    """Its version."""
    version: int | None = await work.fetchval("SELECT version FROM category WHERE name = $1 FOR UPDATE", name)
    return version


async def save_category(work: UnitOfWork, category: Category) -> int:
    version: int = await work.fetchval(
        "INSERT INTO category (name, attributes, free, version) VALUES ($1, $2, $3, 1)"
        " ON CONFLICT (name) DO UPDATE SET attributes = EXCLUDED.attributes, free = EXCLUDED.free, version = category.version + 1 RETURNING version",
        category.name,
        orjson.dumps(category.attributes).decode(),
        category.free,
    )
    return version


async def watch(work: UnitOfWork, identifier: UUID, product: Product, user_id: UUID, email: str, now: datetime) -> asyncpg.Record:
    """Since when the user watches the product, and what it cost then."""
    row = await work.fetchrow(
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


async def unwatch(work: UnitOfWork, sku: str, user_id: UUID) -> None:
    await work.execute("DELETE FROM watch WHERE sku = $1 AND user_id = $2", sku, user_id)


async def returned(work: UnitOfWork, units: Mapping[str, tuple[int, int]]) -> list[str]:
    """Take in the available units and stock version of each sku; those that had none before and have some now."""
    rows = await work.fetch(
        """
        WITH news AS (SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS n(sku, units, stock_version) ORDER BY sku),
        before AS (SELECT a.* FROM available a JOIN news USING (sku)),
        written AS (
            INSERT INTO available (sku, units, stock_version) SELECT * FROM news
            ON CONFLICT (sku) DO UPDATE SET units = EXCLUDED.units, stock_version = EXCLUDED.stock_version WHERE available.stock_version < EXCLUDED.stock_version
            RETURNING sku, units
        )
        SELECT w.sku FROM written w LEFT JOIN before b USING (sku) WHERE w.units > 0 AND coalesce(b.units, 0) <= 0
        """,
        list(units),
        [available for available, _ in units.values()],
        [version for _, version in units.values()],
    )
    return [row["sku"] for row in rows]


async def raise_back_in_stock(work: UnitOfWork, skus: Collection[str], now: datetime) -> int:
    """Note that these are back, where somebody watches; how many."""
    return await work.execute(
        "INSERT INTO alert (sku, kind, raised_at) SELECT sku, 'back_in_stock', $2 FROM product p"
        " WHERE sku = ANY($1) AND active AND EXISTS (SELECT FROM watch w WHERE w.sku = p.sku) ORDER BY sku"
        " ON CONFLICT (sku, kind) DO UPDATE SET raised_at = EXCLUDED.raised_at",
        list(skus),
        now,
    )


async def raise_price_drops(work: UnitOfWork, products: Sequence[Product], now: datetime) -> int:
    """Note that these cost less than when somebody began to watch them, in the same currency; how many."""
    return await work.execute(
        "INSERT INTO alert (sku, kind, raised_at) SELECT sku, 'price_drop', $4 FROM unnest($1::text[], $2::bigint[], $3::text[]) AS n(sku, price, currency)"
        " WHERE EXISTS (SELECT FROM watch w WHERE w.sku = n.sku AND w.currency = n.currency AND w.price > n.price) ORDER BY sku"
        " ON CONFLICT (sku, kind) DO UPDATE SET raised_at = EXCLUDED.raised_at",
        [product.sku for product in products],
        [product.price.amount for product in products],
        [product.price.currency for product in products],
        now,
    )


async def take_alert(work: UnitOfWork) -> asyncpg.Record | None:
    """The oldest alert, locked."""
    return await work.fetchrow("SELECT sku, kind, raised_at FROM alert ORDER BY raised_at LIMIT 1 FOR UPDATE SKIP LOCKED")


async def end_watches(work: UnitOfWork, alert: asyncpg.Record, limit: int) -> list[asyncpg.Record]:
    """Those who watched the product when the alert was raised and for whom it is still true, with the product as it is now; their watches are over."""
    return await work.fetch(
        """
        WITH told AS (
            SELECT w.id FROM watch w JOIN product p USING (sku) LEFT JOIN available a USING (sku)
            WHERE sku = $1 AND w.since <= $3 AND p.active
            AND CASE WHEN $2 = 'price_drop' THEN w.currency = p.currency AND w.price > p.price ELSE a.units > 0 END
            ORDER BY w.id LIMIT $4 FOR UPDATE OF w
        )
        DELETE FROM watch w USING told, product p WHERE w.id = told.id AND p.sku = w.sku
        RETURNING w.id, w.user_id, w.email, w.price AS watched_at, p.name, p.price, p.currency
        """,
        alert["sku"],
        alert["kind"],
        alert["raised_at"],
        limit,
    )


async def drop_alert(work: UnitOfWork, sku: str, kind: str) -> None:
    await work.execute("DELETE FROM alert WHERE sku = $1 AND kind = $2", sku, kind)
