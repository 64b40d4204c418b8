"""Cancelling an order, without a charge that begins after the cancellation was accepted."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from caravan.audit import audit
from caravan.auth import Caller
from caravan.database import CONNECTION_LOST, UnitOfWork, VersionConflict
from caravan.errors import Conflict, DeadlineExceeded, NotFound, Problem, Unavailable
from caravan.telemetry import log
from services.orders import model, store
from services.orders.use_cases import OrdersContext
from services.payments.client import HOLD_CAPTURE, HoldRequest
from services.processing.messages import CANCEL_ORDER, CancelOrder

ATTEMPTS = 5
Answer = TypeVar("Answer")


async def cancel_order(
    context: OrdersContext, caller: Caller, order_id: UUID, reason: str, answer: Callable[[UnitOfWork, model.Order], Answer]
) -> tuple[int, Answer]:
    """Ask for an order to be undone; the version that says so. NotFound for others' orders, IllegalMove once the parcel has left.
    `answer` stores what the client is told with it.

    Payments is asked to begin no charge before the cancellation is accepted: afterwards one could begin before the command arrives there.
    """
    recorded = await store.history(context.database, order_id)
    seen = _of(caller, order_id, model.fold((item.event, item.time) for item in recorded))
    if not (seen.request_cancellation(reason) and seen.awaits_payment):
        return await _accept_cancellation(context, caller, order_id, reason, answer)
    try:
        await context.calls(HOLD_CAPTURE, HoldRequest(order_id=order_id))
    except (Unavailable, DeadlineExceeded):
        log.warning("cancelled without holding the payment: what is charged meanwhile is given back", order_id=str(order_id))
    try:
        return await _accept_cancellation(context, caller, order_id, reason, answer)
    except Exception:
        await _let_go(context, order_id)
        raise


async def _let_go(context: OrdersContext, order_id: UUID) -> None:
    """The cancellation came to nothing: the payment goes on soon, unless somebody else has cancelled the order meanwhile."""
    with suppress(Problem, *CONNECTION_LOST):
        recorded = await store.history(context.database, order_id)
        if not model.fold((item.event, item.time) for item in recorded).cancelling:
            await context.calls(HOLD_CAPTURE, HoldRequest(order_id=order_id, briefly=True))


async def _accept_cancellation(
    context: OrdersContext, caller: Caller, order_id: UUID, reason: str, answer: Callable[[UnitOfWork, model.Order], Answer]
) -> tuple[int, Answer]:
    for _ in range(ATTEMPTS):
        try:
            async with context.database.work() as work:
                order = _of(caller, order_id, (await store.lock(work, [order_id])).get(order_id))
                events = order.request_cancellation(reason)
                work.append(order_id, order.version, events)
                if events and order.created and str(order.created.user_id) != caller.subject:
                    audit(work, "order.cancel_requested", f"order:{order_id}", reason=reason)
                if events:
                    work.emit(CANCEL_ORDER, CancelOrder(order_id=order_id, reason=reason), key=order_id)
                for event in events:
                    order.apply(event, context.clock())
                told = answer(work, order)
            context.nudge("project")
            return order.version, told
        except VersionConflict:
            continue  # an event came in between: decide anew
    raise Conflict(f"order {order_id} is changing; try again")


def _of(caller: Caller, order_id: UUID, order: model.Order | None) -> model.Order:
    """The order when the caller may see it. NotFound otherwise."""
    if order is None or order.created is None or not caller.may_see(order.created.user_id):
        raise NotFound(f"no order {order_id}")
    return order
