"""What the routes of catalog share: parameters, and products as they are shown."""

from typing import Annotated, Any

from fastapi import Path

from caravan.auth import Caller
from caravan.errors import NotFound
from services.catalog import model
from services.catalog.model import Product
from services.catalog.schemas import ProductItem, Sku
from services.catalog.store import products
from services.catalog.use_cases import CatalogContext

SkuPath = Annotated[Sku, Path(description="the product's sku")]


def to_item_fields(product: Product) -> dict[str, Any]:
    return {name: getattr(product, name) for name in ProductItem.model_fields}


def to_item(product: Product) -> ProductItem:
    return ProductItem.model_construct(**to_item_fields(product))


async def get_visible_product(context: CatalogContext, sku: str, caller: Caller | None) -> Product:
    product = await products.find_product(context.database, sku)
    if product is None or not is_visible(product.active, caller):
        raise NotFound(f"no product {sku}")
    return product


def is_visible(is_active: bool, caller: Caller | None) -> bool:
    """Withdrawn products are for staff."""
    return is_active or (caller is not None and caller.has_role("staff"))


def parse_text(value: Any) -> str:
    """A part of a cursor."""
    if not isinstance(value, str) or not model.is_storable(value):
        raise ValueError("not a text")
    return value
