"""Advance sagas: apply a batch of messages and send what follows from it, in one unit of work."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from caravan import failpoint
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from caravan.money import Money
from caravan.service import ServiceContext
from services.inventory.messages import RELEASE_STOCK, RESERVE_STOCK, ReleaseStock, ReserveStock, StockLine
from services.orders.messages import OrderCreated
from services.payments.messages import CAPTURE_PAYMENT, REFUND_PAYMENT, CapturePayment, RefundPayment
from services.processing import store
from services.processing.messages import (
    ORDER_PROCESSED,
    ORDER_UNDONE,
    CancellationRefused,
    OrderProcessed,
    OrderUndone,
    Outcome,
)
from services.processing.metrics import SAGA_DURATION
from services.processing.model import Saga, SagaMessage, Step
from services.processing.settings import Settings
from services.processing.store import SagaRow
from services.shipping.messages import SHIP_ORDER, CancelShipment, Parcel, ShipOrder

ProcessingContext = ServiceContext[Settings, None]

RESEND_BATCH = 100
OUTCOMES: dict[Step, Outcome] = {
    "publish_completed": "completed",
    "publish_rejected": "rejected",
    "publish_payment_failed": "payment_failed",
    "publish_cancelled": "cancelled",
}
"""The steps that publish how an order ended."""


async def start_sagas(context: ProcessingContext, uow: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
    """Begin the sagas of new orders; one whose cancellation has overtaken it is undone at once."""
    rows = await store.lock_sagas(uow, {delivery.message.order_id for delivery in deliveries})
    now = context.clock()
    for delivery in deliveries:
        order = delivery.message
        row = rows.setdefault(order.order_id, SagaRow(Saga(order.order_id), now))
        if not row.saga.has_order:
            row.saga.has_order, row.order_json = True, order.model_dump_json()
            if row.cause is None:
                row.set_command(delivery)
    await _send_next_steps(context, uow, rows, {delivery.message.order_id: delivery for delivery in deliveries})


async def advance_sagas(
    context: ProcessingContext, uow: UnitOfWork, deliveries: Sequence[Delivery[SagaMessage]]
) -> None:
    """Apply messages to the sagas of their orders. An unknown order gets a row, too: the message may have overtaken
    OrderCreated.
    """
    rows = await store.lock_sagas(uow, {delivery.message.order_id for delivery in deliveries})
    for delivery in deliveries:
        message = delivery.message
        row = rows.setdefault(message.order_id, SagaRow(Saga(message.order_id), context.clock()))
        previous_reason = row.saga.cancel_reason
        row.saga.apply_message(message)
        if previous_reason is None and row.saga.cancel_reason is not None:
            row.set_command(delivery)
    await _send_next_steps(context, uow, rows, {delivery.message.order_id: delivery for delivery in deliveries})


async def resend_overdue(context: ProcessingContext) -> bool:
    """Send again what nobody has answered in time, and cancel what has waited for stock too long."""
    now = context.clock()
    async with context.database.unit_of_work() as uow:
        rows = await store.lock_overdue_sagas(uow, now, RESEND_BATCH)
        for row in rows:
            row.reminders += 1
            row.saga.version += 1
            if row.saga.stock == "asked" and (now - row.started_at).total_seconds() > context.settings.give_up_seconds:
                row.saga.request_cancellation("no answer from inventory in time")
            new_steps = row.saga.take_next_steps()
            row.record_steps(new_steps, row.command, now)
            for step in new_steps or row.saga.list_outstanding_steps():
                _send_step(uow, row, step, row.command)
            row.deadline = _compute_deadline(context, row, now)
        if rows:
            await store.save_sagas(uow, rows)
    return len(rows) == RESEND_BATCH


async def _send_next_steps(
    context: ProcessingContext, uow: UnitOfWork, rows: dict[UUID, SagaRow], causes: dict[UUID, Delivery[Any]]
) -> None:
    now = context.clock()
    ends: list[tuple[Outcome, datetime]] = []
    for order_id, row in rows.items():
        row.saga.version += 1
        is_compensating = row.saga.cancel_reason is not None  # whatever message makes the next step of it possible
        steps = row.saga.take_next_steps()
        cause = row.command if is_compensating else causes.get(order_id)
        row.record_steps(steps, cause, now)
        for step in steps:
            _send_step(uow, row, step, cause)
            if step in OUTCOMES:
                ends.append((OUTCOMES[step], row.started_at))
        row.deadline = _compute_deadline(context, row, now)
    if rows:
        await store.save_sagas(uow, rows.values())
    uow.run_after_commit(partial(_observe_ends, ends, now))
    failpoint.hit("processing.advance.before_commit")


def _observe_ends(ends: Sequence[tuple[Outcome, datetime]], now: datetime) -> None:
    for outcome, started_at in ends:
        SAGA_DURATION.labels(outcome).observe(max(0.0, (now - started_at).total_seconds()))


def _compute_deadline(context: ProcessingContext, row: SagaRow, now: datetime) -> datetime | None:
    if row.saga.is_closed or not row.saga.list_outstanding_steps():
        return None
    return now + timedelta(seconds=context.settings.step_timeout_seconds * 2 ** min(row.reminders, 6))


def _send_step(uow: UnitOfWork, row: SagaRow, step: Step, caused_by: Delivery[Any] | None) -> None:
    """Send what a step says."""
    saga, order = row.saga, row.parse_order()
    key = saga.order_id
    match step:
        case "reserve_stock":
            uow.emit(
                RESERVE_STOCK,
                ReserveStock(
                    order_id=key, lines=[StockLine(sku=line.sku, quantity=line.quantity) for line in order.lines]
                ),
                key=key,
                caused_by=caused_by,
            )
        case "release_stock":
            uow.emit(
                RELEASE_STOCK,
                ReleaseStock(order_id=key, reason=saga.cancel_reason or "payment failed"),
                key=key,
                caused_by=caused_by,
            )
        case "capture_payment":
            uow.emit(CAPTURE_PAYMENT, CapturePayment(order_id=key), key=key, caused_by=caused_by)
        case "refund_payment":
            uow.emit(
                REFUND_PAYMENT,
                RefundPayment(order_id=key, reason=saga.cancel_reason or "cancelled"),
                key=key,
                caused_by=caused_by,
            )
        case "ship_order":
            uow.emit(SHIP_ORDER, _build_ship_order(order), key=key, caused_by=caused_by)
        case "cancel_shipment":
            uow.emit(SHIP_ORDER, CancelShipment(order_id=key), key=key, caused_by=caused_by)
        case "publish_undone":
            refunded = Money(amount=saga.refunded, currency=order.total.currency) if saga.refunded else None
            uow.emit(
                ORDER_UNDONE,
                OrderUndone(order_id=key, reason=saga.reason, refunded=refunded),
                key=key,
                caused_by=caused_by,
            )
        case "refuse_cancellation":
            uow.emit(
                ORDER_UNDONE,
                CancellationRefused(order_id=key, reason=saga.explain_refusal()),
                key=key,
                caused_by=caused_by,
            )
        case _:
            _publish_outcome(uow, saga, order, OUTCOMES[step], caused_by)


def _publish_outcome(
    uow: UnitOfWork, saga: Saga, order: OrderCreated, outcome: Outcome, caused_by: Delivery[Any] | None
) -> None:
    reason = saga.cancel_reason or saga.reason
    processed = OrderProcessed(
        order_id=order.order_id,
        user_id=order.user_id,
        email=order.email,
        outcome=outcome,
        reason=reason,
        total=order.total,
    )
    uow.emit(ORDER_PROCESSED, processed, key=order.order_id, caused_by=caused_by)


def _build_ship_order(order: OrderCreated) -> ShipOrder:
    parcels = [Parcel(sku=line.sku, quantity=line.quantity) for line in order.lines]
    return ShipOrder(
        order_id=order.order_id,
        email=order.email,
        recipient=order.shipping_address.name,
        address=order.shipping_address.as_text(),
        parcels=parcels,
    )
