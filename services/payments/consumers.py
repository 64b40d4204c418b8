"""The message door of payments."""

from caravan.database import UnitOfWork
from caravan.inbox import Consumers
from caravan.messages import Delivery
from services.inventory.messages import INVENTORY_REJECTED, InventoryRejected
from services.orders.messages import ORDERS, OrderCancelled
from services.payments.messages import CAPTURE, EXPECT, REFUND, CapturePayment, ExpectPayment, RefundPayment
from services.payments.model import OUT_OF_STOCK, VOIDED
from services.payments.use_cases import PaymentsContext, charge, give_back

consume = Consumers("payments")


@consume(EXPECT)
async def expect_payment(context: PaymentsContext, work: UnitOfWork, deliveries: list[Delivery[ExpectPayment]]) -> None:
    await charge.expect(context, work, [d.message for d in deliveries])


@consume(ORDERS.bind("payments", "order.cancelled"))
async def order_cancelled(context: PaymentsContext, work: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]) -> None:
    await charge.close(context, work, {d.message.order_id: VOIDED for d in deliveries if isinstance(d.message, OrderCancelled)})


@consume(INVENTORY_REJECTED)
async def inventory_rejected(context: PaymentsContext, work: UnitOfWork, deliveries: list[Delivery[InventoryRejected]]) -> None:
    await charge.close(context, work, {d.message.order_id: OUT_OF_STOCK for d in deliveries})


@consume.effect(CAPTURE)
async def capture_payment(context: PaymentsContext, deliveries: list[Delivery[CapturePayment]]) -> None:
    await charge.capture(context, deliveries)


@consume(REFUND)
async def refund_payment(context: PaymentsContext, work: UnitOfWork, delivery: Delivery[RefundPayment]) -> None:
    await give_back.ask_refund(context, work, delivery)
