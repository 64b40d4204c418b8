"""Answers what a product costs and how much there is of it: offers for other services, the stock beside a product's
page.
"""

from caravan.database import CONNECTION_LOST, Database
from caravan.errors import DeadlineExceeded, ServiceUnavailable
from caravan.money import Money
from services.catalog.client import Offer, Offers, OffersRequest
from services.catalog.schemas import (
    Availability,
)
from services.catalog.store import products
from services.catalog.use_cases import CatalogContext
from services.inventory.client import GET_AVAILABILITY, AvailabilityRequest


async def find_availability(context: CatalogContext, sku: str) -> Availability | None:
    """None while inventory is unavailable or slow: the product is shown without its stock."""
    try:
        matches = (await context.call(GET_AVAILABILITY, AvailabilityRequest(skus=[sku]))).stock
    except (ServiceUnavailable, DeadlineExceeded, *CONNECTION_LOST):
        return None
    return (
        Availability(**matches[0].model_dump(exclude={"sku"}))
        if matches
        else Availability(on_hand=0, reserved=0, available=0)
    )


async def get_offers(context: CatalogContext, request: OffersRequest) -> Offers:
    return Offers.model_construct(offers=await context.resources.load_many(request.skus))


async def fetch_offers(database: Database, skus: list[str]) -> dict[str, Offer]:
    construct, money = Offer.model_construct, Money.model_construct
    return {
        sku: construct(sku=sku, name=name, category=category, price=money(amount=price, currency=currency))
        for sku, name, category, price, currency in await products.find_offers(database, skus)
    }
