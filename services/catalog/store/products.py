"""The queries of products, but for lists of them."""

from collections.abc import Callable, Collection, Sequence
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
from services.catalog.model import Product


class OfferRow(NamedTuple):
    sku: str
    name: str
    category: str
    price: int
    currency: str


COLUMNS: dict[str, Callable[[Product], Any]] = {
    **{name: attrgetter(name) for name in list_fields(Product)},
    "price": lambda product: product.price.amount,
    "currency": lambda product: product.price.currency,
    "attributes": lambda product: orjson.dumps(product.attributes).decode(),
}
"""How each column is read from a product; `to_product` is the way back."""


def to_product(*columns: Any) -> Product:
    values = dict(zip(COLUMNS, columns, strict=True))
    values["price"] = Money(amount=values["price"], currency=values.pop("currency"))
    values["attributes"] = orjson.loads(values["attributes"])
    return Product(**values)


_SELECT = select(*select_columns(tables.Product, COLUMNS))
_IS_AMONG_SKUS = is_among(col(tables.Product.sku), "skus")
_FIND_OFFERS = Query(
    select(*list_columns(tables.Product, OfferRow)).where(_IS_AMONG_SKUS, col(tables.Product.active)), OfferRow
)
_FIND = Query(_SELECT.where(col(tables.Product.sku) == bindparam("sku")), to_product)
_LOCK = Query(_SELECT.where(_IS_AMONG_SKUS).order_by(col(tables.Product.sku)).with_for_update(), to_product)
_SAVE = Upsert(tables.Product, COLUMNS, fixed=("created_at",), condition="product.version = excluded.version - 1")


async def find_offers(database: Database, skus: Collection[str]) -> list[OfferRow]:
    return await _FIND_OFFERS.fetch_all(database, skus=list(skus))


async def find_product(database: Database, sku: str) -> Product | None:
    return await _FIND.fetch_one(database, sku=sku)


async def lock_products(uow: UnitOfWork, skus: Collection[str]) -> dict[str, Product]:
    return {product.sku: product for product in await _LOCK.fetch_all(uow, skus=list(skus))}


async def save_products(uow: UnitOfWork, products: Sequence[Product]) -> int:
    """Write each product over its version before, or as a new one; how many could be written."""
    return await _SAVE.execute(uow, sorted(products, key=lambda product: product.sku))
