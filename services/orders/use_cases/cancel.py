"""Cancel an order. No charge begins after the cancellation was accepted."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from caravan.audit import record_audit
from caravan.auth import Caller
from caravan.database import CONNECTION_LOST, UnitOfWork, VersionConflict
from caravan.errors import Conflict, DeadlineExceeded, NotFound, Problem, ServiceUnavailable
from caravan.telemetry import log
from services.orders import model
from services.orders.store import streams
from services.orders.use_cases import OrdersContext
from services.payments.client import HOLD_CAPTURE, HoldRequest
from services.processing.messages import CANCEL_ORDER, CancelOrder

ATTEMPTS = 5
ResponseT = TypeVar("ResponseT")


async def cancel_order(
    context: OrdersContext,
    caller: Caller,
    order_id: UUID,
    reason: str,
    store_response: Callable[[UnitOfWork, model.Order], ResponseT],
) -> tuple[int, ResponseT]:
    """Ask for an order to be undone; the version that says so. NotFound for others' orders, IllegalMove once the parcel
    has left. `store_response` stores the response with it.

    Payments is asked to begin no charge before the cancellation is accepted: afterwards one could begin before the
    command arrives there.
    """
    recorded_events = await streams.load_events(context.database, order_id)
    order = _require_visible_order(
        caller, order_id, model.fold_events((item.event, item.time) for item in recorded_events)
    )
    if not (order.request_cancellation(reason) and order.is_awaiting_payment):
        return await _accept_cancellation(context, caller, order_id, reason, store_response)
    try:
        await context.call(HOLD_CAPTURE, HoldRequest(order_id=order_id))
    except (ServiceUnavailable, DeadlineExceeded):
        log.warning(
            "cancelled without holding the payment: what is charged meanwhile is given back", order_id=str(order_id)
        )
    try:
        return await _accept_cancellation(context, caller, order_id, reason, store_response)
    except Exception:
        await _shorten_hold(context, order_id)
        raise


async def _shorten_hold(context: OrdersContext, order_id: UUID) -> None:
    """The cancellation came to nothing: the payment goes on soon, unless somebody else has cancelled the order
    meanwhile.
    """
    with suppress(Problem, *CONNECTION_LOST):
        recorded_events = await streams.load_events(context.database, order_id)
        if not model.fold_events((item.event, item.time) for item in recorded_events).cancelling:
            await context.call(HOLD_CAPTURE, HoldRequest(order_id=order_id, briefly=True))


async def _accept_cancellation(
    context: OrdersContext,
    caller: Caller,
    order_id: UUID,
    reason: str,
    store_response: Callable[[UnitOfWork, model.Order], ResponseT],
) -> tuple[int, ResponseT]:
    for _ in range(ATTEMPTS):
        try:
            async with context.database.unit_of_work() as uow:
                order = _require_visible_order(
                    caller, order_id, (await streams.lock_orders(uow, [order_id])).get(order_id)
                )
                events = order.request_cancellation(reason)
                uow.append(order_id, order.version, events)
                if events and order.created and str(order.created.user_id) != caller.subject:
                    record_audit(uow, "order.cancel_requested", f"order:{order_id}", reason=reason)
                if events:
                    uow.emit(CANCEL_ORDER, CancelOrder(order_id=order_id, reason=reason), key=order_id)
                for event in events:
                    order.apply(event, context.clock())
                response = store_response(uow, order)
            context.wake("project-orders")
            return order.version, response
        except VersionConflict:
            continue  # an event came in between: decide anew
    raise Conflict(f"order {order_id} is changing; try again")


def _require_visible_order(caller: Caller, order_id: UUID, order: model.Order | None) -> model.Order:
    """The order when the caller may see it. NotFound otherwise."""
    if order is None or order.created is None or not caller.can_see(order.created.user_id):
        raise NotFound(f"no order {order_id}")
    return order
