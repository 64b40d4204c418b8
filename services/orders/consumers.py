"""What other services report of an order: each outcome becomes an event of it."""

from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.inventory.messages import INVENTORY_RESERVED, InventoryReserved
from services.orders.use_cases import OrdersContext
from services.orders.use_cases.record import record_reports
from services.payments.messages import PAYMENT_COMPLETED, PaymentCompleted
from services.processing.messages import ORDER_PROCESSED, ORDER_UNDONE, CancellationRefused, OrderProcessed, OrderUndone
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, OrderDelivered, OrderShipped

consume = Consumers("orders")


@consume(INVENTORY_RESERVED, PAYMENT_COMPLETED, ORDER_SHIPPED, ORDER_DELIVERED, ORDER_UNDONE)
async def record_report(
    context: OrdersContext,
    uow: UnitOfWork,
    deliveries: list[
        Delivery[
            InventoryReserved | PaymentCompleted | OrderShipped | OrderDelivered | OrderUndone | CancellationRefused
        ]
    ],
) -> None:
    await record_reports(context, uow, deliveries)


@consume(ORDER_PROCESSED)
async def record_outcome(context: OrdersContext, uow: UnitOfWork, deliveries: list[Delivery[OrderProcessed]]) -> None:
    """The others follow from PaymentCompleted and OrderUndone."""
    failures = [delivery for delivery in deliveries if delivery.message.outcome in ("rejected", "payment_failed")]
    if failures:
        await record_reports(context, uow, failures)
