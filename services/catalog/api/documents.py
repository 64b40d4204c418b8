"""What the routes of catalog share: parameters, and products as they are shown."""

from typing import Annotated, Any

from fastapi import Path, Request

from caravan.auth import Caller
from caravan.errors import NotFound
from services.catalog import model, store
from services.catalog.model import Product
from services.catalog.schemas import ProductItem, Sku
from services.catalog.use_cases import CatalogContext

SkuPath = Annotated[Sku, Path(description="the product's sku")]


def context_of(request: Request) -> CatalogContext:
    context: CatalogContext = request.app.state.context
    return context


def fields(product: Product) -> dict[str, Any]:
    return {name: getattr(product, name) for name in ProductItem.model_fields}


def item(product: Product) -> ProductItem:
    return ProductItem.model_construct(**fields(product))


async def visible(context: CatalogContext, sku: str, caller: Caller | None) -> Product:
    product = await store.find(context.database, sku)
    if product is None or not (product.active or (caller is not None and caller.at_least("staff"))):
        raise NotFound(f"no product {sku}")
    return product


def text(part: Any) -> str:
    """A part of a cursor."""
    if not isinstance(part, str) or not model.storable(part):
        raise ValueError("not a text")
    return part
