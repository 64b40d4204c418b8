"""The queries of products, and the search over them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg
import orjson

from caravan.database import Database, UnitOfWork
from caravan.money import Money
from services.catalog.model import Product, build_prefix_query, fold_accents, sanitize_search

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
