"""The message door: each outcome that other services report becomes an event of the order."""

from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Delivery, Event
from services.inventory.messages import INVENTORY_RESERVED, InventoryReserved
from services.orders import model
from services.orders.use_cases import OrdersContext
from services.orders.use_cases.record import OrderReport, record_reports
from services.payments.messages import PAYMENT_COMPLETED, PaymentCompleted
from services.processing.messages import ORDER_PROCESSED, ORDER_UNDONE, CancellationRefused, OrderProcessed, OrderUndone
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, OrderDelivered, OrderShipped

consume = Consumers("orders")


@consume(INVENTORY_RESERVED)
async def handle_inventory_reserved(
    context: OrdersContext, uow: UnitOfWork, deliveries: list[Delivery[InventoryReserved]]
) -> None:
    await record_reports(
        context,
        uow,
        [(d.message.order_id, d, lambda order: order.record_report(model.InventoryReserved())) for d in deliveries],
    )


@consume(PAYMENT_COMPLETED)
async def handle_payment_completed(
    context: OrdersContext, uow: UnitOfWork, deliveries: list[Delivery[PaymentCompleted]]
) -> None:
    def to_report(delivery: Delivery[PaymentCompleted]) -> OrderReport:
        payment = delivery.message
        event = model.PaymentCompleted(
            amount=payment.amount, attempt=payment.attempt, invoice_number=payment.invoice_number
        )
        return payment.order_id, delivery, lambda order: order.record_report(event)

    await record_reports(context, uow, map(to_report, deliveries))


@consume(ORDER_PROCESSED)
async def handle_order_processed(
    context: OrdersContext, uow: UnitOfWork, deliveries: list[Delivery[OrderProcessed]]
) -> None:
    def to_report(delivery: Delivery[OrderProcessed]) -> OrderReport:
        outcome = delivery.message
        events: dict[str, Event] = {
            "rejected": model.InventoryRejected(reason=outcome.reason),
            "payment_failed": model.PaymentFailed(reason=outcome.reason),
        }
        event = events.get(outcome.outcome)
        return outcome.order_id, delivery, lambda order: order.record_report(event) if event else []

    await record_reports(
        context, uow, map(to_report, (d for d in deliveries if d.message.outcome in ("rejected", "payment_failed")))
    )


@consume(ORDER_SHIPPED)
async def handle_order_shipped(
    context: OrdersContext, uow: UnitOfWork, deliveries: list[Delivery[OrderShipped]]
) -> None:
    def to_report(delivery: Delivery[OrderShipped]) -> OrderReport:
        event = model.OrderShipped(carrier=delivery.message.carrier, tracking_number=delivery.message.tracking_number)
        return delivery.message.order_id, delivery, lambda order: order.record_report(event)

    await record_reports(context, uow, map(to_report, deliveries))


@consume(ORDER_DELIVERED)
async def handle_order_delivered(
    context: OrdersContext, uow: UnitOfWork, deliveries: list[Delivery[OrderDelivered]]
) -> None:
    def to_report(delivery: Delivery[OrderDelivered]) -> OrderReport:
        event = model.OrderDelivered(tracking_number=delivery.message.tracking_number)
        return delivery.message.order_id, delivery, lambda order: order.record_report(event)

    await record_reports(context, uow, map(to_report, deliveries))


@consume(ORDER_UNDONE)
async def handle_order_undone(
    context: OrdersContext, uow: UnitOfWork, deliveries: list[Delivery[OrderUndone | CancellationRefused]]
) -> None:
    def to_report(delivery: Delivery[OrderUndone | CancellationRefused]) -> OrderReport:
        match delivery.message:
            case OrderUndone(order_id=order_id, reason=reason, refunded=refunded):
                return order_id, delivery, lambda order: order.complete_cancellation(reason, refunded)
            case CancellationRefused(order_id=order_id, reason=reason):
                return order_id, delivery, lambda order: order.refuse_cancellation(reason)

    await record_reports(context, uow, map(to_report, deliveries))
