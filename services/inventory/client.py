"""What inventory answers to other services."""

from pydantic import BaseModel

from caravan.client import Operation


class AvailabilityRequest(BaseModel):
    skus: list[str]


class Availability(BaseModel):
    sku: str
    on_hand: int
    reserved: int
    available: int


class Availabilities(BaseModel):
    """A sku that has never had stock is absent."""

    stock: list[Availability]


GET_AVAILABILITY = Operation("inventory", "availability", AvailabilityRequest, Availabilities, seconds=0.5)
