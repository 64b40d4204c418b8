"""The commands to ship an order and to stop its shipment."""

from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.shipping import use_cases
from services.shipping.messages import SHIP_ORDER, CancelShipment, ShipOrder

consume = Consumers("shipping")


@consume(SHIP_ORDER)
async def ship_order(
    context: use_cases.ShippingContext, uow: UnitOfWork, deliveries: list[Delivery[ShipOrder | CancelShipment]]
) -> None:
    await use_cases.accept_commands(context, uow, deliveries)
