"""The message door of inventory."""

from caravan.database import UnitOfWork
from caravan.inbox import Consumers
from caravan.messages import Delivery
from services.inventory import use_cases
from services.inventory.messages import INVENTORY_RELEASED, RELEASE_STOCK, RESERVE_STOCK, InventoryReleased, ReleaseStock, ReserveStock
from services.orders.messages import ORDERS, OrderCancelled
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.shipping.messages import ORDER_SHIPPED, OrderShipped

consume = Consumers("inventory")

Context = use_cases.InventoryContext


@consume(RESERVE_STOCK)
async def reserve_stock(context: Context, work: UnitOfWork, deliveries: list[Delivery[ReserveStock]]) -> None:
    await use_cases.reserve(context, work, deliveries)


@consume(RELEASE_STOCK)
async def release_stock(context: Context, work: UnitOfWork, deliveries: list[Delivery[ReleaseStock]]) -> None:
    """A command is answered also when nothing was held."""
    await use_cases.release(context, work, [(d.message.order_id, d.message.reason, d) for d in deliveries])
    for delivery in deliveries:
        order_id = delivery.message.order_id
        work.emit(INVENTORY_RELEASED, InventoryReleased(order_id=order_id, reason=delivery.message.reason), key=order_id, due=delivery)


@consume(ORDERS.bind("inventory", "order.cancelled"))
async def order_cancelled(context: Context, work: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]) -> None:
    """The saga has released it by command already; this holds when that command was lost or is late."""
    released = await use_cases.release(context, work, [(d.message.order_id, d.message.reason, d) for d in deliveries])
    for delivery in deliveries:
        order_id = delivery.message.order_id
        if order_id in released:
            released.discard(order_id)
            work.emit(INVENTORY_RELEASED, InventoryReleased(order_id=order_id, reason=delivery.message.reason), key=order_id, due=delivery)


@consume(ORDER_PROCESSED)
async def order_processed(_: Context, work: UnitOfWork, deliveries: list[Delivery[OrderProcessed]]) -> None:
    await use_cases.keep(work, deliveries)


@consume(ORDER_SHIPPED)
async def order_shipped(context: Context, work: UnitOfWork, deliveries: list[Delivery[OrderShipped]]) -> None:
    await use_cases.ship(context, work, deliveries)
