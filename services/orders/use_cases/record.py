"""Recording what other services report."""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from caravan.database import UnitOfWork
from caravan.messages import Delivery, Event
from services.orders import model, store
from services.orders.messages import ORDER_CANCELLED, ORDERS, OrderCancellationRefused, OrderCancelled
from services.orders.use_cases import OrdersContext

Told = tuple[UUID, Delivery[Any], Callable[[model.Order], list[Event]]]
"""An order, the message that tells of it, and the events that follow for the order as it is."""


async def record(context: OrdersContext, work: UnitOfWork, told: Iterable[Told]) -> None:
    """Append what other services report to the orders' streams; a fact that is known already adds nothing."""
    told = list(told)
    orders = await store.lock(work, {order_id for order_id, _, _ in told})
    for order_id, delivery, decide in told:
        order = orders.get(order_id)
        if order is None:
            continue  # not one of ours: a report about an order that was never stored
        events = decide(order)
        work.append(order_id, order.version, events, due=delivery)
        for event in events:
            order.apply(event, context.clock())
            if isinstance(event, OrderCancelled):
                work.emit(ORDER_CANCELLED, event, key=order_id, due=delivery)
            if isinstance(event, OrderCancelled | OrderCancellationRefused):
                work.emit(ORDERS, event, key=order_id, due=delivery)
    work.after_commit(lambda: context.nudge("project"))
