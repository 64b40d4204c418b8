"""The message door of inventory."""

from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.inventory.messages import (
    INVENTORY_RELEASED,
    RELEASE_STOCK,
    RESERVE_STOCK,
    InventoryReleased,
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


@consume(RELEASE_STOCK)
async def release_stock(context: InventoryContext, uow: UnitOfWork, deliveries: list[Delivery[ReleaseStock]]) -> None:
    """A command is answered also when nothing was held."""
    await release.release_stock(context, uow, [(d.message.order_id, d.message.reason, d) for d in deliveries])
    for delivery in deliveries:
        order_id = delivery.message.order_id
        uow.emit(
            INVENTORY_RELEASED,
            InventoryReleased(order_id=order_id, reason=delivery.message.reason),
            key=order_id,
            caused_by=delivery,
        )


@consume(ORDERS.bind("inventory", "order.cancelled"))
async def handle_order_cancelled(
    context: InventoryContext, uow: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]
) -> None:
    """The saga has released it by command already; this holds when that command was lost or is late."""
    released_orders = await release.release_stock(
        context, uow, [(d.message.order_id, d.message.reason, d) for d in deliveries]
    )
    for delivery in deliveries:
        order_id = delivery.message.order_id
        if order_id in released_orders:
            released_orders.discard(order_id)
            uow.emit(
                INVENTORY_RELEASED,
                InventoryReleased(order_id=order_id, reason=delivery.message.reason),
                key=order_id,
                caused_by=delivery,
            )


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
