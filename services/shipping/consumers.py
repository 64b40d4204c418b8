"""The message door of shipping."""

from caravan.database import UnitOfWork
from caravan.inbox import Consumers
from caravan.messages import Delivery
from services.shipping import use_cases
from services.shipping.messages import SHIP_ORDER, CancelShipment, ShipOrder

consume = Consumers("shipping")


@consume(SHIP_ORDER)
async def ship_order(context: use_cases.ShippingContext, work: UnitOfWork, deliveries: list[Delivery[ShipOrder | CancelShipment]]) -> None:
    await use_cases.take_orders(context, work, deliveries)
