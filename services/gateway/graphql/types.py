"""The types of the graph that hold more than their service's schema: what joins them with other services.

All others are derived where a field names their schema.
"""

import asyncio
from typing import Any

import strawberry

from services.catalog.caches import PRODUCT
from services.catalog.schemas import ProductItem
from services.gateway.graphql.policy import Join, JsonObject, Policy
from services.gateway.graphql.service_calls import ServiceCalls
from services.gateway.graphql.shapes import derive_type, get_type
from services.inventory.caches import STOCK
from services.inventory.client import GET_AVAILABILITY, AvailabilityRequest
from services.inventory.schemas import StockDocument
from services.orders.messages import Address
from services.orders.schemas import LineItem, OrderDocument
from services.recommendations.client import Recommendation as RecommendationShape

PRODUCTS_PER_CALL = 100


async def load_products(calls: ServiceCalls, sources: list[JsonObject]) -> list[Any]:
    """By the sku of each; None for one that is withdrawn."""
    skus = list(dict.fromkeys(source["sku"] for source in sources))
    batches = [skus[start : start + PRODUCTS_PER_CALL] for start in range(0, len(skus), PRODUCTS_PER_CALL)]
    pages = await asyncio.gather(
        *(
            calls.read("catalog", "/v1/products", {"skus": ",".join(batch), "limit": PRODUCTS_PER_CALL, "sort": "sku"})
            for batch in batches
        )
    )
    products = {item["sku"]: item for page in pages for item in page["items"]}
    return [products.get(source["sku"]) for source in sources]


async def load_stock(calls: ServiceCalls, sources: list[JsonObject]) -> list[Any]:
    """By the sku of each; zeros for one that never had stock."""
    skus = list(dict.fromkeys(source["sku"] for source in sources))
    answer = await calls.ask(GET_AVAILABILITY, AvailabilityRequest(skus=skus))
    stock = {line.sku: line.model_dump() for line in answer.stock if line is not None}
    return [
        stock.get(sku) or {"sku": sku, "on_hand": 0, "reserved": 0, "available": 0}
        for sku in (source["sku"] for source in sources)
    ]


def declare_join(graphql_type: Any, join: Join, description: str) -> Any:
    """A field whose value `joins.py` puts into the object. It may be null: the other service may be away."""
    return strawberry.field(
        graphql_type=graphql_type | None, description=description, metadata=Policy(join=join).as_metadata()
    )


PRODUCT_JOIN = Join(load_products, PRODUCTS_PER_CALL, lambda source: PRODUCT(source["sku"]))
STOCK_JOIN = Join(load_stock, get_tag=lambda source: STOCK(source["sku"]))


@derive_type(ProductItem)
class Product:
    """A product of the catalogue. `version` counts its changes from 1."""

    stock: Any = declare_join(get_type(StockDocument), STOCK_JOIN, "What is there of it, from inventory.")


@derive_type(LineItem)
class OrderLine:
    """A line of an order, with the name and the price of when it was placed."""

    product: Any = declare_join(Product, PRODUCT_JOIN, "The product as it is now; null when it was withdrawn.")


@derive_type(RecommendationShape)
class Recommendation:
    """A product that is recommended, with the rule that found it."""

    product: Any = declare_join(Product, PRODUCT_JOIN, "The product; null when it was withdrawn meanwhile.")


@derive_type(OrderDocument, shipping_address=get_type(Address))
class Order:
    """An order as it was at `version`."""
