"""Record what other services report, as events of the order."""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from caravan.database import UnitOfWork
from caravan.messages import Delivery, Event
from services.orders import model, store
from services.orders.messages import ORDER_CANCELLED, ORDERS, OrderCancellationRefused, OrderCancelled
from services.orders.use_cases import OrdersContext

OrderReport = tuple[UUID, Delivery[Any], Callable[[model.Order], list[Event]]]
"""An order, the message that tells of it, and the events that follow for the order as it is."""


async def record_reports(context: OrdersContext, uow: UnitOfWork, reports: Iterable[OrderReport]) -> None:
    """Append what other services report to the orders' streams; a fact that is known already adds nothing."""
    reports = list(reports)
    orders = await store.lock_orders(uow, {order_id for order_id, _, _ in reports})
    for order_id, delivery, decide in reports:
        order = orders.get(order_id)
        if order is None:
            continue  # not one of ours: a report about an order that was never stored
        events = decide(order)
        uow.append(order_id, order.version, events, caused_by=delivery)
        for event in events:
            order.apply(event, context.clock())
            if isinstance(event, OrderCancelled):
                uow.emit(ORDER_CANCELLED, event, key=order_id, caused_by=delivery)
            if isinstance(event, OrderCancelled | OrderCancellationRefused):
                uow.emit(ORDERS, event, key=order_id, caused_by=delivery)
    uow.run_after_commit(lambda: context.wake("project-orders"))
