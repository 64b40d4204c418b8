"""What catalog answers to other services."""

from pydantic import BaseModel

from caravan.client import Operation
from caravan.money import Money


class OffersRequest(BaseModel):
    skus: list[str]


class Offer(BaseModel):
    """A product that can be bought now."""

    sku: str
    name: str
    category: str
    price: Money


class Offers(BaseModel):
    """Unknown and withdrawn skus are absent."""

    offers: list[Offer]


GET_OFFERS = Operation("catalog", "offers", OffersRequest, Offers)
