"""What catalog publishes."""

from typing import Any

from caravan.messages import Event, Topic
from caravan.money import Money


class ProductUpdated(Event):
    """A product as it is now. `product_version` counts from 1 without gaps; `previous_price` is None for a new
    product.
    """

    sku: str
    product_version: int
    name: str
    description: str
    category: str
    price: Money
    previous_price: Money | None
    attributes: dict[str, Any]
    active: bool
    """False when it was withdrawn."""


PRODUCT_UPDATED = Topic(
    "product-updated",
    owner="catalog",
    events=(ProductUpdated,),
    key="sku",
    purpose="A product was made, changed or withdrawn.",
)
CHANNELS = (PRODUCT_UPDATED,)
