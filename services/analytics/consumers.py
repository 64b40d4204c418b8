"""The events that reports are made of: each batch becomes one statement.

Two consumer groups read them, `analytics` and `reporting`, each with positions, retries and dead letters of its own, so
that neither waits for the other.
"""

from collections.abc import Iterable
from datetime import date

from caravan.audit import AUDIT, AuditRecorded
from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.analytics import projections
from services.analytics.caches import list_tags_of_change
from services.analytics.store import records
from services.analytics.use_cases import AnalyticsContext as Context
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED, OrderCancelled, OrderCreated
from services.payments.messages import PAYMENT_COMPLETED, PAYMENT_REFUNDED, PaymentCompleted, PaymentRefunded
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, OrderDelivered, OrderShipped

consume = Consumers("analytics", linger=1.0, max_lag_seconds=300)
report = Consumers("reporting", linger=1.0, max_lag_seconds=600)


@consume(ORDER_CREATED)
async def handle_order_created(_: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
    await projections.project_created(uow, deliveries)


@consume(ORDER_PROCESSED)
async def handle_order_processed(_: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderProcessed]]) -> None:
    await projections.project_processed(uow, deliveries)


@consume(PAYMENT_COMPLETED)
async def handle_payment_completed(_: Context, uow: UnitOfWork, deliveries: list[Delivery[PaymentCompleted]]) -> None:
    await projections.project_captures(uow, deliveries)


@consume(PAYMENT_REFUNDED)
async def handle_payment_refunded(_: Context, uow: UnitOfWork, deliveries: list[Delivery[PaymentRefunded]]) -> None:
    await projections.project_refunds(uow, deliveries)


@consume(ORDER_SHIPPED)
async def handle_order_shipped(_: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderShipped]]) -> None:
    await projections.project_shipped(uow, deliveries)


@consume(ORDER_DELIVERED)
async def handle_order_delivered(_: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderDelivered]]) -> None:
    await projections.project_delivered(uow, deliveries)


@consume(ORDER_CANCELLED)
async def handle_order_cancelled(_: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]) -> None:
    await projections.project_cancelled(uow, deliveries)


@consume(AUDIT)
async def handle_audit_recorded(_: Context, uow: UnitOfWork, deliveries: list[Delivery[AuditRecorded]]) -> None:
    await records.insert_records(uow, deliveries)


@report(ORDER_CREATED)
async def report_order_created(context: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
    _void_reports(context, uow, await projections.report_created(uow, deliveries))


@report(PAYMENT_COMPLETED)
async def report_payment_completed(
    context: Context, uow: UnitOfWork, deliveries: list[Delivery[PaymentCompleted]]
) -> None:
    _void_reports(context, uow, await projections.report_captures(uow, deliveries))


@report(PAYMENT_REFUNDED)
async def report_payment_refunded(
    context: Context, uow: UnitOfWork, deliveries: list[Delivery[PaymentRefunded]]
) -> None:
    _void_reports(context, uow, await projections.report_refunds(uow, deliveries))


@report(ORDER_CANCELLED)
async def report_order_cancelled(context: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]) -> None:
    _void_reports(context, uow, await projections.report_cancelled(uow, deliveries))


def _void_reports(context: Context, uow: UnitOfWork, days: Iterable[date]) -> None:
    """After the commit, those that orders placed on these days are in."""
    tags = list_tags_of_change(days)
    uow.run_after_commit(lambda: context.cache.invalidate(tags))
