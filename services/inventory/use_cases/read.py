"""Answers other services' requests for the available stock."""

from caravan.database import Database
from services.inventory.client import Availabilities, Availability, AvailabilityRequest
from services.inventory.store import stock_table
from services.inventory.use_cases import InventoryContext


async def get_availability(context: InventoryContext, request: AvailabilityRequest) -> Availabilities:
    return Availabilities.model_construct(stock=await context.resources.availability_loader.load_many(request.skus))


async def fetch_availability(database: Database, skus: list[str]) -> dict[str, Availability]:
    stocks = await stock_table.find_stock(database, skus)
    return {
        s.sku: Availability.model_construct(sku=s.sku, on_hand=s.on_hand, reserved=s.reserved, available=s.available)
        for s in stocks
    }
