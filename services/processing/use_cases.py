"""Advance sagas: take in what a batch of messages says, and send what follows from it, in one unit of work."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from caravan import crash
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from caravan.money import Money
from caravan.service import Context
from services.inventory.messages import RELEASE_STOCK, RESERVE_STOCK, ReleaseStock, ReserveStock, StockLine
from services.orders.messages import OrderCreated
from services.payments.messages import CAPTURE, REFUND, CapturePayment, RefundPayment
from services.processing import store
from services.processing.messages import ORDER_PROCESSED, ORDER_UNDONE, CancellationRefused, OrderProcessed, OrderUndone, Outcome
from services.processing.model import Saga, Step
from services.processing.settings import Settings
from services.processing.store import Row
from services.shipping.messages import SHIP_ORDER, CancelShipment, Parcel, ShipOrder

ProcessingContext = Context[Settings, None]
TakeIn = Callable[[Saga], object]
News = tuple[UUID, Delivery[Any], TakeIn]
"""An order, the message that tells of it, and how its saga takes it in."""

REMIND_BATCH = 100


async def start(context: ProcessingContext, work: UnitOfWork, created: list[Delivery[OrderCreated]]) -> None:
    """Begin the sagas of new orders; one whose cancellation has overtaken it is undone at once."""
    rows = await store.lock(work, {delivery.message.order_id for delivery in created})
    now = context.clock()
    for delivery in created:
        order = delivery.message
        row = rows.setdefault(order.order_id, Row(Saga(order.order_id), now))
        if not row.saga.known:
            row.saga.known, row.body = True, order.model_dump_json()
            if row.command is None:
                row.follow(delivery)
    await _go_on(context, work, rows, {delivery.message.order_id: delivery for delivery in created})


async def advance(context: ProcessingContext, work: UnitOfWork, news: Iterable[News]) -> None:
    """Take in what is new of some orders. An unknown order gets a row, too: the news may have overtaken OrderCreated."""
    news = list(news)
    rows = await store.lock(work, {order_id for order_id, _, _ in news})
    for order_id, delivery, take_in in news:
        row = rows.setdefault(order_id, Row(Saga(order_id), context.clock()))
        before = row.saga.cancel
        take_in(row.saga)
        if before is None and row.saga.cancel is not None:
            row.follow(delivery)
    await _go_on(context, work, rows, {order_id: delivery for order_id, delivery, _ in news})


async def remind(context: ProcessingContext) -> bool:
    """Send again what nobody has answered in time, and cancel what has waited for stock too long."""
    now = context.clock()
    async with context.database.work() as work:
        overdue = await store.lock_overdue(work, now, REMIND_BATCH)
        for row in overdue:
            row.reminders += 1
            row.saga.version += 1
            if row.saga.stock == "asked" and (now - row.started_at).total_seconds() > context.settings.give_up_seconds:
                row.saga.want_cancelled("no answer from inventory in time")
            for step in row.saga.next_steps() or row.saga.outstanding():
                _take(work, row, step, row.command)
        if overdue:
            await store.save(work, overdue, [_deadline(context, row, now) for row in overdue])
    return len(overdue) == REMIND_BATCH


async def _go_on(context: ProcessingContext, work: UnitOfWork, rows: dict[UUID, Row], due: dict[UUID, Delivery[Any]]) -> None:
    now = context.clock()
    for order_id, row in rows.items():
        row.saga.version += 1
        undoing = row.saga.cancel is not None  # whatever message makes the next step of it possible
        for step in row.saga.next_steps():
            _take(work, row, step, row.command if undoing else due.get(order_id))
    if rows:
        await store.save(work, list(rows.values()), [_deadline(context, row, now) for row in rows.values()])
    crash.point("processing.advance.before_commit")


def _deadline(context: ProcessingContext, row: Row, now: datetime) -> datetime | None:
    if row.saga.closed or not row.saga.outstanding():
        return None
    return now + timedelta(seconds=context.settings.answer_seconds * 2 ** min(row.reminders, 6))


def _take(work: UnitOfWork, row: Row, step: Step, due: Delivery[Any] | None) -> None:
    """Send what a step says."""
    saga, order = row.saga, row.order()
    key = saga.order_id
    match step:
        case "reserve_stock":
            work.emit(
                RESERVE_STOCK,
                ReserveStock(order_id=key, lines=[StockLine(sku=line.sku, quantity=line.quantity) for line in order.lines]),
                key=key,
                due=due,
            )
        case "release_stock":
            work.emit(RELEASE_STOCK, ReleaseStock(order_id=key, reason=saga.cancel or "payment failed"), key=key, due=due)
        case "capture_payment":
            work.emit(CAPTURE, CapturePayment(order_id=key), key=key, due=due)
        case "refund_payment":
            work.emit(REFUND, RefundPayment(order_id=key, reason=saga.cancel or "cancelled"), key=key, due=due)
        case "ship_order":
            work.emit(SHIP_ORDER, _shipment(order), key=key, due=due)
        case "cancel_shipment":
            work.emit(SHIP_ORDER, CancelShipment(order_id=key), key=key, due=due)
        case "publish_undone":
            refunded = Money(amount=saga.refunded, currency=order.total.currency) if saga.refunded else None
            work.emit(ORDER_UNDONE, OrderUndone(order_id=key, reason=saga.reason, refunded=refunded), key=key, due=due)
        case "refuse_cancellation":
            work.emit(ORDER_UNDONE, CancellationRefused(order_id=key, reason=saga.why_too_late()), key=key, due=due)
        case "publish_completed":
            _publish(work, saga, order, "completed", due)
        case "publish_rejected":
            _publish(work, saga, order, "rejected", due)
        case "publish_payment_failed":
            _publish(work, saga, order, "payment_failed", due)
        case "publish_cancelled":
            _publish(work, saga, order, "cancelled", due)


def _publish(work: UnitOfWork, saga: Saga, order: OrderCreated, outcome: Outcome, due: Delivery[Any] | None) -> None:
    reason = saga.cancel or saga.reason
    processed = OrderProcessed(
        order_id=order.order_id, user_id=order.user_id, email=order.email, outcome=outcome, reason=reason, total=order.total
    )
    work.emit(ORDER_PROCESSED, processed, key=order.order_id, due=due)


def _shipment(order: OrderCreated) -> ShipOrder:
    parcels = [Parcel(sku=line.sku, quantity=line.quantity) for line in order.lines]
    return ShipOrder(
        order_id=order.order_id,
        email=order.email,
        recipient=order.shipping_address.name,
        address=order.shipping_address.as_text(),
        parcels=parcels,
    )
