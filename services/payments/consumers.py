"""The message door of payments."""

from caravan.database import UnitOfWork
from caravan.inbox import Consumers
from caravan.messages import Delivery
from services.orders.messages import ORDERS, OrderCancelled, OrderCreated
from services.payments.messages import CAPTURE, REFUND, CapturePayment, RefundPayment
from services.payments.use_cases import PaymentsContext, charge, give_back

consume = Consumers("payments")


@consume(ORDERS.bind("payments", "order.created", "order.cancelled"))
async def order_announced(context: PaymentsContext, work: UnitOfWork, deliveries: list[Delivery[OrderCreated | OrderCancelled]]) -> None:
    await charge.expect(context, work, deliveries)


@consume.effect(CAPTURE)
async def capture_payment(context: PaymentsContext, deliveries: list[Delivery[CapturePayment]]) -> None:
    await charge.capture(context, deliveries)


@consume(REFUND)
async def refund_payment(context: PaymentsContext, work: UnitOfWork, delivery: Delivery[RefundPayment]) -> None:
    await give_back.ask_refund(context, work, delivery)
