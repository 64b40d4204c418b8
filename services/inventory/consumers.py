"""The commands for stock, and the events of an order that change what is reserved for it."""

from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.inventory.messages import (
    RELEASE_STOCK,
    RESERVE_STOCK,
    ReleaseStock,
    ReserveStock,
)
from services.inventory.use_cases import InventoryContext, release, reserve, ship
from services.orders.messages import ORDERS, OrderCancelled
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.shipping.messages import ORDER_SHIPPED, OrderShipped

consume = Consumers("inventory")


@consume(RESERVE_STOCK)
async def reserve_stock(context: InventoryContext, uow: UnitOfWork, deliveries: list[Delivery[ReserveStock]]) -> None:
    await reserve.reserve_stock(context, uow, deliveries)


@consume(RELEASE_STOCK, ORDERS.bind("inventory", "order.cancelled"))
async def release_stock(
    context: InventoryContext, uow: UnitOfWork, deliveries: list[Delivery[ReleaseStock | OrderCancelled]]
) -> None:
    await release.release_stock(context, uow, deliveries)


@consume(ORDER_PROCESSED)
async def handle_order_processed(
    _: InventoryContext, uow: UnitOfWork, deliveries: list[Delivery[OrderProcessed]]
) -> None:
    await release.keep_paid_stock(uow, deliveries)


@consume(ORDER_SHIPPED)
async def handle_order_shipped(
    context: InventoryContext, uow: UnitOfWork, deliveries: list[Delivery[OrderShipped]]
) -> None:
    await ship.ship_stock(context, uow, deliveries)
