"""The queries of products, and the search over them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import orjson
from sqlalchemy import bindparam, select

from caravan.database import Database, UnitOfWork
from caravan.database.conditions import is_among
from caravan.database.query import Query, Upsert
from caravan.database.tables import col, list_columns, list_fields, select_columns
from caravan.money import Money
from services.catalog import tables
from services.catalog.model import Product, build_prefix_query, fold_accents, sanitize_search


class OfferRow(NamedTuple):
    sku: str
    name: str
    category: str
    price: int
    currency: str


_COLUMNS: dict[str, Callable[[Product], Any]] = {
    **{name: attrgetter(name) for name in list_fields(Product)},
    "price": lambda product: product.price.amount,
    "currency": lambda product: product.price.currency,
    "attributes": lambda product: orjson.dumps(product.attributes).decode(),
}
"""How each column is read from a product; `_to_product` is the way back."""


def _to_product(*columns: Any) -> Product:
    values = dict(zip(_COLUMNS, columns, strict=True))
    values["price"] = Money(amount=values["price"], currency=values.pop("currency"))
    values["attributes"] = orjson.loads(values["attributes"])
    return Product(**values)


_SELECT = select(*select_columns(tables.Product, _COLUMNS))
_IS_AMONG_SKUS = is_among(col(tables.Product.sku), "skus")
_FIND_OFFERS = Query(
    select(*list_columns(tables.Product, OfferRow)).where(_IS_AMONG_SKUS, col(tables.Product.active)), OfferRow
)
_FIND = Query(_SELECT.where(col(tables.Product.sku) == bindparam("sku")), _to_product)
_LOCK = Query(_SELECT.where(_IS_AMONG_SKUS).order_by(col(tables.Product.sku)).with_for_update(), _to_product)
_SAVE = Upsert(tables.Product, _COLUMNS, fixed=("created_at",), condition="product.version = excluded.version - 1")


async def find_offers(database: Database, skus: Collection[str]) -> list[OfferRow]:
    return await _FIND_OFFERS.fetch_all(database, skus=list(skus))


async def find_product(database: Database, sku: str) -> Product | None:
    return await _FIND.fetch_one(database, sku=sku)


async def lock_products(uow: UnitOfWork, skus: Collection[str]) -> dict[str, Product]:
    return {product.sku: product for product in await _LOCK.fetch_all(uow, skus=list(skus))}


async def save_products(uow: UnitOfWork, products: Sequence[Product]) -> int:
    """Write each product over its version before, or as a new one; how many could be written."""
    return await _SAVE.execute(uow, sorted(products, key=lambda product: product.sku))


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
        f"SELECT {', '.join(_COLUMNS)}, {expression} AS sort_value FROM product WHERE {' AND '.join(conditions)}"
        f" ORDER BY {expression} {direction}, sku {direction} LIMIT {limit:d}",
        *arguments,
    )
    return [(_to_product(*columns), sort_value) for *columns, sort_value in rows]


def _to_like_prefix(text: str) -> str:
    escaped = text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped + "%"
