"""The message door: each batch becomes one statement over the facts."""

from caravan.audit import AUDIT, AuditRecorded
from caravan.database import UnitOfWork
from caravan.inbox import Consumers
from caravan.messages import Delivery
from services.analytics.store import facts, records
from services.analytics.use_cases import AnalyticsContext as Context
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED, OrderCancelled, OrderCreated
from services.payments.messages import PAYMENT_COMPLETED, PAYMENT_REFUNDED, PaymentCompleted, PaymentRefunded
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, OrderDelivered, OrderShipped

consume = Consumers("analytics", linger=0.25)


@consume(ORDER_CREATED)
async def order_created(_: Context, work: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
    await facts.placed(work, [delivery.message for delivery in deliveries])


@consume(ORDER_PROCESSED)
async def order_processed(_: Context, work: UnitOfWork, deliveries: list[Delivery[OrderProcessed]]) -> None:
    await facts.processed(work, [(d.message.order_id, d.message.outcome, d.time) for d in deliveries])


@consume(PAYMENT_COMPLETED)
async def payment_completed(_: Context, work: UnitOfWork, deliveries: list[Delivery[PaymentCompleted]]) -> None:
    await facts.captured(work, [(d.message.order_id, d.message.amount.amount, d.message.amount.currency, d.time) for d in deliveries])


@consume(PAYMENT_REFUNDED)
async def payment_refunded(_: Context, work: UnitOfWork, deliveries: list[Delivery[PaymentRefunded]]) -> None:
    """An amount of 0 says that nothing had been captured."""
    given_back = [
        (d.message.order_id, d.message.amount.amount, d.message.amount.currency, d.time) for d in deliveries if d.message.amount.amount
    ]
    if given_back:
        await facts.refunded(work, given_back)


@consume(ORDER_SHIPPED)
async def order_shipped(_: Context, work: UnitOfWork, deliveries: list[Delivery[OrderShipped]]) -> None:
    await facts.stepped(work, "shipped_at", [(d.message.order_id, d.time) for d in deliveries])


@consume(ORDER_DELIVERED)
async def order_delivered(_: Context, work: UnitOfWork, deliveries: list[Delivery[OrderDelivered]]) -> None:
    await facts.stepped(work, "delivered_at", [(d.message.order_id, d.time) for d in deliveries])


@consume(ORDER_CANCELLED)
async def order_cancelled(_: Context, work: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]) -> None:
    await facts.cancelled(work, [(d.message.order_id, d.message.refunded.amount if d.message.refunded else 0, d.time) for d in deliveries])


@consume(AUDIT)
async def audit_recorded(_: Context, work: UnitOfWork, deliveries: list[Delivery[AuditRecorded]]) -> None:
    await records.record(work, deliveries)
