"""Record what other services report, as events of the order."""

from collections.abc import Sequence
from functools import partial

from caravan.database import UnitOfWork
from caravan.messages import Delivery, Event
from caravan.money import Money
from services.inventory.messages import InventoryReserved
from services.orders import model
from services.orders.messages import ORDER_CANCELLED, ORDERS, OrderCancellationRefused, OrderCancelled
from services.orders.metrics import count_orders
from services.orders.store import streams
from services.orders.use_cases import OrdersContext
from services.payments.messages import PaymentCompleted
from services.processing.messages import CancellationRefused, OrderProcessed, OrderUndone
from services.shipping.messages import OrderDelivered, OrderShipped

ReportMessage = (
    InventoryReserved
    | PaymentCompleted
    | OrderProcessed
    | OrderShipped
    | OrderDelivered
    | OrderUndone
    | CancellationRefused
)


async def record_reports(
    context: OrdersContext, uow: UnitOfWork, deliveries: Sequence[Delivery[ReportMessage]]
) -> None:
    """Append what other services report to the orders' streams; a fact that is known already adds nothing."""
    orders = await streams.lock_orders(uow, {delivery.message.order_id for delivery in deliveries})
    states: list[str] = []
    payments: list[Money] = []
    for delivery in deliveries:
        order_id = delivery.message.order_id
        order = orders.get(order_id)
        if order is None:
            continue  # not one of ours: a report about an order that was never stored
        events = _decide_events(order, delivery.message)
        uow.append(order_id, order.version, events, caused_by=delivery)
        for event in events:
            previous_status = order.status
            order.apply(event, context.clock())
            if order.status != previous_status:
                states.append(order.status)
            if isinstance(event, model.PaymentCompleted):
                payments.append(event.amount)
            if isinstance(event, OrderCancelled):
                uow.emit(ORDER_CANCELLED, event, key=order_id, caused_by=delivery)
            if isinstance(event, OrderCancelled | OrderCancellationRefused):
                uow.emit(ORDERS, event, key=order_id, caused_by=delivery)
    uow.run_after_commit(partial(count_orders, states, payments))
    uow.run_after_commit(lambda: context.wake("project-orders"))


def _decide_events(order: model.Order, report: ReportMessage) -> list[Event]:
    """The events that follow from a report for the order as it is."""
    event: Event
    match report:
        case InventoryReserved():
            event = model.InventoryReserved()
        case PaymentCompleted(amount=amount, attempt=attempt, invoice_number=number):
            event = model.PaymentCompleted(amount=amount, attempt=attempt, invoice_number=number)
        case OrderShipped(carrier=carrier, tracking_number=number):
            event = model.OrderShipped(carrier=carrier, tracking_number=number)
        case OrderDelivered(tracking_number=number):
            event = model.OrderDelivered(tracking_number=number)
        case OrderProcessed(outcome="rejected", reason=reason):
            event = model.InventoryRejected(reason=reason)
        case OrderProcessed(outcome="payment_failed", reason=reason):
            event = model.PaymentFailed(reason=reason)
        case OrderProcessed():
            return []
        case OrderUndone(reason=reason, refunded=refunded):
            return order.complete_cancellation(reason, refunded)
        case CancellationRefused(reason=reason):
            return order.refuse_cancellation(reason)
    return order.record_report(event)
