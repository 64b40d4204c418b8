"""Two read models, each written by a consumer group of its own: event in, row out. The group `analytics` keeps how far
each order has come (the funnel, the dashboard's states), `reporting` what was sold and given back (all sums). The
consumers write them as events come, and a rebuild writes them from the topics.
"""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from caravan.database import UnitOfWork
from caravan.messages import Delivery
from caravan.money import Money
from caravan.service import ReadModel
from services.analytics.store import facts, sales
from services.analytics.store.facts import AmountsAt
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED, OrderCancelled, OrderCreated
from services.payments.messages import PAYMENT_COMPLETED, PAYMENT_REFUNDED, PaymentCompleted, PaymentRefunded
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, OrderDelivered, OrderShipped


async def project_created(uow: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
    await facts.record_orders(uow, [delivery.message for delivery in deliveries])


async def project_processed(uow: UnitOfWork, deliveries: list[Delivery[OrderProcessed]]) -> None:
    await facts.record_outcomes(uow, [(d.message.order_id, d.message.outcome, d.time) for d in deliveries])


async def project_captures(uow: UnitOfWork, deliveries: list[Delivery[PaymentCompleted]]) -> None:
    await facts.record_amounts(uow, _list_captures(deliveries))


async def project_refunds(uow: UnitOfWork, deliveries: list[Delivery[PaymentRefunded]]) -> None:
    await facts.record_amounts(uow, _list_refunds([(d.message.order_id, d.message.amount, d.time) for d in deliveries]))


async def project_shipped(uow: UnitOfWork, deliveries: list[Delivery[OrderShipped]]) -> None:
    await facts.record_step(uow, "shipped_at", [(d.message.order_id, d.time) for d in deliveries])


async def project_delivered(uow: UnitOfWork, deliveries: list[Delivery[OrderDelivered]]) -> None:
    await facts.record_step(uow, "delivered_at", [(d.message.order_id, d.time) for d in deliveries])


async def project_cancelled(uow: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]) -> None:
    await facts.record_cancellations(
        uow, [(d.message.order_id, d.message.refunded.amount if d.message.refunded else 0, d.time) for d in deliveries]
    )


async def report_created(uow: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> set[date]:
    return await sales.record_orders(uow, [delivery.message for delivery in deliveries])


async def report_captures(uow: UnitOfWork, deliveries: list[Delivery[PaymentCompleted]]) -> set[date]:
    return await sales.record_amounts(uow, _list_captures(deliveries))


async def report_refunds(uow: UnitOfWork, deliveries: list[Delivery[PaymentRefunded]]) -> set[date]:
    return await sales.record_amounts(
        uow, _list_refunds([(d.message.order_id, d.message.amount, d.time) for d in deliveries])
    )


async def report_cancelled(uow: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]) -> set[date]:
    return await sales.record_amounts(
        uow, _list_refunds([(d.message.order_id, d.message.refunded, d.time) for d in deliveries])
    )


def _list_captures(deliveries: Sequence[Delivery[PaymentCompleted]]) -> list[AmountsAt]:
    amounts = [(d.message.order_id, d.message.amount, d.time) for d in deliveries]
    return [(order_id, money.amount, 0, money.currency, at, None) for order_id, money, at in amounts]


def _list_refunds(refunds: Sequence[tuple[UUID, Money | None, datetime]]) -> list[AmountsAt]:
    """An amount of 0, or none, says that nothing had been captured."""
    return [
        (order_id, 0, money.amount, money.currency, None, at)
        for order_id, money, at in refunds
        if money and money.amount
    ]


ORDER_FACTS = ReadModel(
    "analytics",
    tables=("order_fact",),
    projections={
        ORDER_CREATED: project_created,
        ORDER_PROCESSED: project_processed,
        PAYMENT_COMPLETED: project_captures,
        PAYMENT_REFUNDED: project_refunds,
        ORDER_SHIPPED: project_shipped,
        ORDER_DELIVERED: project_delivered,
        ORDER_CANCELLED: project_cancelled,
    },
)
SALES = ReadModel(
    "reporting",
    tables=("order_line_fact", "sale"),
    projections={
        ORDER_CREATED: report_created,
        PAYMENT_COMPLETED: report_captures,
        PAYMENT_REFUNDED: report_refunds,
        ORDER_CANCELLED: report_cancelled,
    },
)
