"""Lists of products: filters, orders and pages.

A list without a search goes along the index of its order. `search.py` finds the products of a search first.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from caravan.database import Database
from services.catalog.model import Product
from services.catalog.store.products import COLUMNS, to_product

PRICE = "(currency || lpad(price::text, 19, '0'))"
"""Minor units of two currencies are no measure of each other: products come currency by currency."""


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


SORT_ORDERS: Mapping[str, SortOrder] = {
    "newest": SortOrder("created_at", "timestamptz", descending=True),
    "name": SortOrder("left(name, 60)", "text"),  # so that a cursor stays short
    "price": SortOrder(PRICE, "text"),
    "-price": SortOrder(PRICE, "text", descending=True),
    "sku": SortOrder("sku", "text"),
}
Position = tuple[Any, str]
"""The value of the order, and the sku: behind it a page begins."""


class Statement:
    """The conditions of a list, and their arguments."""

    def __init__(self, filters: ProductFilter) -> None:
        self.conditions = ["active" if filters.active else "NOT active"]
        self.arguments: list[Any] = []
        if filters.category is not None:
            self.add_condition("category = {}::text", filters.category)
        if filters.skus is not None:
            self.add_condition("sku = ANY({}::text[])", filters.skus)
        for documents in filters.attributes:
            texts = [orjson.dumps(document).decode() for document in documents]
            self.add_condition("(" + " OR ".join(["attributes @> {}::jsonb"] * len(texts)) + ")", *texts)

    def add_condition(self, condition: str, *values: Any) -> None:
        """`{}` stands for each of the values."""
        first = len(self.arguments) + 1
        self.arguments += values
        self.conditions.append(condition.format(*(f"${first + index}" for index in range(len(values)))))

    async def fetch_sorted(
        self, database: Database, sort_key: str, after: Position | None, limit: int
    ) -> list[tuple[Product, Any]]:
        sort_order = SORT_ORDERS[sort_key]
        expression = sort_order.expression
        if after is not None:
            comparison = "<" if sort_order.descending else ">"
            self.add_condition(f"({expression}, sku) {comparison} ({{}}::{sort_order.type}, {{}}::text)", *after)
        direction = "DESC" if sort_order.descending else "ASC"
        return await self.fetch(database, expression, f"{expression} {direction}, sku {direction}", limit)

    async def fetch(self, database: Database, value: str, order: str, limit: int) -> list[tuple[Product, Any]]:
        """Products, each with a value."""
        rows = await database.fetch(
            f"SELECT {', '.join(COLUMNS)}, {value} AS value FROM product WHERE {' AND '.join(self.conditions)}"
            f" ORDER BY {order} LIMIT {limit:d}",
            *self.arguments,
        )
        return [(to_product(*columns), value) for *columns, value in rows]


async def list_in_order(
    database: Database, filters: ProductFilter, sort_key: str, after: Position | None, limit: int
) -> list[tuple[Product, Any]]:
    """Products with their place in the order, from behind the place `after`: whatever is inserted meanwhile, no product
    comes twice or is left out.
    """
    return await Statement(filters).fetch_sorted(database, sort_key, after, limit)
