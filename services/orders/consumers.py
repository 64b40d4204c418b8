"""The message door: each outcome that other services report becomes an event of the order."""

from caravan.database import UnitOfWork
from caravan.inbox import Consumers
from caravan.messages import Delivery, Event
from services.inventory.messages import INVENTORY_RESERVED, InventoryReserved
from services.orders import model
from services.orders.use_cases import OrdersContext
from services.orders.use_cases.record import Told, record
from services.payments.messages import PAYMENT_COMPLETED, PaymentCompleted
from services.processing.messages import ORDER_PROCESSED, ORDER_UNDONE, CancellationRefused, OrderProcessed, OrderUndone
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, OrderDelivered, OrderShipped

consume = Consumers("orders")


@consume(INVENTORY_RESERVED)
async def inventory_reserved(context: OrdersContext, work: UnitOfWork, deliveries: list[Delivery[InventoryReserved]]) -> None:
    await record(context, work, [(d.message.order_id, d, lambda order: order.learn(model.InventoryReserved())) for d in deliveries])


@consume(PAYMENT_COMPLETED)
async def payment_completed(context: OrdersContext, work: UnitOfWork, deliveries: list[Delivery[PaymentCompleted]]) -> None:
    def told(delivery: Delivery[PaymentCompleted]) -> Told:
        paid = delivery.message
        fact = model.PaymentCompleted(amount=paid.amount, attempt=paid.attempt, invoice_number=paid.invoice_number)
        return paid.order_id, delivery, lambda order: order.learn(fact)

    await record(context, work, map(told, deliveries))


@consume(ORDER_PROCESSED)
async def order_processed(context: OrdersContext, work: UnitOfWork, deliveries: list[Delivery[OrderProcessed]]) -> None:
    def told(delivery: Delivery[OrderProcessed]) -> Told:
        processed = delivery.message
        facts: dict[str, Event] = {
            "rejected": model.InventoryRejected(reason=processed.reason),
            "payment_failed": model.PaymentFailed(reason=processed.reason),
        }
        fact = facts.get(processed.outcome)
        return processed.order_id, delivery, lambda order: order.learn(fact) if fact else []

    await record(context, work, map(told, (d for d in deliveries if d.message.outcome in ("rejected", "payment_failed"))))


@consume(ORDER_SHIPPED)
async def order_shipped(context: OrdersContext, work: UnitOfWork, deliveries: list[Delivery[OrderShipped]]) -> None:
    def told(delivery: Delivery[OrderShipped]) -> Told:
        fact = model.OrderShipped(carrier=delivery.message.carrier, tracking_number=delivery.message.tracking_number)
        return delivery.message.order_id, delivery, lambda order: order.learn(fact)

    await record(context, work, map(told, deliveries))


@consume(ORDER_DELIVERED)
async def order_delivered(context: OrdersContext, work: UnitOfWork, deliveries: list[Delivery[OrderDelivered]]) -> None:
    def told(delivery: Delivery[OrderDelivered]) -> Told:
        fact = model.OrderDelivered(tracking_number=delivery.message.tracking_number)
        return delivery.message.order_id, delivery, lambda order: order.learn(fact)

    await record(context, work, map(told, deliveries))


@consume(ORDER_UNDONE)
async def order_undone(context: OrdersContext, work: UnitOfWork, deliveries: list[Delivery[OrderUndone | CancellationRefused]]) -> None:
    def told(delivery: Delivery[OrderUndone | CancellationRefused]) -> Told:
        match delivery.message:
            case OrderUndone(order_id=order_id, reason=reason, refunded=refunded):
                return order_id, delivery, lambda order: order.cancelled(reason, refunded)
            case CancellationRefused(order_id=order_id, reason=reason):
                return order_id, delivery, lambda order: order.cancellation_refused(reason)

    await record(context, work, map(told, deliveries))
