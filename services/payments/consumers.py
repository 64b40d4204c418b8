"""The commands to charge and refund, and what ends an order before it is charged."""

from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.inventory.messages import INVENTORY_REJECTED, InventoryRejected
from services.orders.messages import ORDERS, OrderCancelled, OrderCreated
from services.payments.messages import (
    CAPTURE_PAYMENT,
    EXPECT_PAYMENT,
    REFUND_PAYMENT,
    CapturePayment,
    ExpectPayment,
    RefundPayment,
)
from services.payments.model import CANCELLED_REASON, OUT_OF_STOCK_REASON
from services.payments.use_cases import PaymentsContext, charge, refund

consume = Consumers("payments")


@consume(EXPECT_PAYMENT)
async def expect_payment(context: PaymentsContext, uow: UnitOfWork, deliveries: list[Delivery[ExpectPayment]]) -> None:
    await charge.expect_payments(context, uow, [d.message for d in deliveries])


@consume(ORDERS.bind("payments", "order.cancelled"), ignores=(OrderCreated,))
async def handle_order_cancelled(
    context: PaymentsContext, uow: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]
) -> None:
    """Ignored is what an older version, which read OrderCreated here, has left in the queue."""
    await charge.void_payments(context, uow, {d.message.order_id: CANCELLED_REASON for d in deliveries})


@consume(INVENTORY_REJECTED)
async def handle_inventory_rejected(
    context: PaymentsContext, uow: UnitOfWork, deliveries: list[Delivery[InventoryRejected]]
) -> None:
    await charge.void_payments(context, uow, {d.message.order_id: OUT_OF_STOCK_REASON for d in deliveries})


@consume.effect(CAPTURE_PAYMENT)
async def capture_payment(context: PaymentsContext, deliveries: list[Delivery[CapturePayment]]) -> None:
    await charge.capture_payments(context, deliveries)


@consume(REFUND_PAYMENT)
async def refund_payment(context: PaymentsContext, uow: UnitOfWork, delivery: Delivery[RefundPayment]) -> None:
    await refund.request_refund(context, uow, delivery)
