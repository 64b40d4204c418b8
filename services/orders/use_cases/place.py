"""Placing an order: its customer, products and stock are asked for first, then it is stored and announced in one statement."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from caravan import crash
from caravan.auth import Caller
from caravan.clock import new_id
from caravan.database import UnitOfWork
from caravan.errors import Conflict, DeadlineExceeded, Forbidden, Invalid, Unavailable
from caravan.messages import MessageTooLarge
from caravan.postcodes import UNKNOWN
from services.catalog.client import OFFERS, OffersRequest
from services.inventory.client import AVAILABILITY, AvailabilityRequest
from services.orders import model
from services.orders.messages import ORDER_CREATED, ORDERS, OrderCreated
from services.orders.schemas import Accepted, PlaceOrder
from services.orders.use_cases import OrdersContext
from services.payments.messages import EXPECT, ExpectPayment, InvoiceLine

Answer = TypeVar("Answer")


async def place_order(
    context: OrdersContext, caller: Caller, order: PlaceOrder, answer: Callable[[UnitOfWork, Accepted], Answer]
) -> Answer:
    """Ask identity, catalog and inventory first, then store and announce the order in one statement. `answer` stores what the client is told with it."""
    if order.shipping_address.postcode == UNKNOWN and caller.actor is None:
        rule = "0 stands for a postcode that is not known; give your own"
        raise Invalid(f"shipping_address.postcode: {rule}", errors=[{"field": "shipping_address.postcode", "rule": rule}])
    skus = [line.sku for line in order.lines]
    standing, offers, available = await asyncio.gather(
        context.parts.standings.of(caller.user_id), context.calls(OFFERS, OffersRequest(skus=skus)), _available(context, skus)
    )
    if not standing.active:
        raise Forbidden("your account is disabled; it can't order")
    offered = {offer.sku: offer for offer in offers.offers}
    unknown = [{"field": f"lines.{place}.sku", "rule": f"{sku} is not for sale"} for place, sku in enumerate(skus) if sku not in offered]
    if unknown:
        raise Invalid(f"{len(unknown)} of the lines name products that are not for sale", errors=unknown[:50])
    _check_stock(order, available)
    created = model.place(
        new_id(),
        caller.user_id,
        standing.email,
        standing.name,
        [(model.Offered(o.sku, o.name, o.category, o.price), line.quantity) for line in order.lines if (o := offered[line.sku])],
        order.shipping_address.as_written(),
        order.payment.method,
        context.clock(),
    )
    try:
        async with context.database.work() as work:
            work.append(created.order_id, 0, [created])
            work.emit(ORDER_CREATED, created, key=created.order_id)
            work.emit(ORDERS, created, key=created.order_id)
            work.emit(EXPECT, _payment(created, order.payment.token), key=created.order_id)
            told = answer(work, Accepted(id=created.order_id, version=1, total=created.total, placed_at=created.placed_at))
            crash.point("orders.place.before_commit")
    except MessageTooLarge:
        raise Invalid(
            f"{len(created.lines)} lines with names this long are more than one order can hold; order them as several",
            errors=[{"field": "lines", "rule": "their names and categories are too long together; send fewer lines"}],
        ) from None
    crash.point("orders.place.after_commit")
    context.nudge("project")
    return told


def _payment(order: OrderCreated, token: str) -> ExpectPayment:
    """What payments is told, and nobody else: the token is in no event."""
    return ExpectPayment(
        order_id=order.order_id,
        user_id=order.user_id,
        email=order.email,
        customer_name=order.customer_name,
        amount=order.total,
        method=order.payment_method,
        token=token,
        lines=[InvoiceLine(sku=line.sku, name=line.name, quantity=line.quantity, unit_price=line.unit_price) for line in order.lines],
        billing_address=order.shipping_address.as_text(),
    )


async def _available(context: OrdersContext, skus: list[str]) -> dict[str, int] | None:
    """What is available of each sku; None when inventory is away or slow: then the saga decides, with a reservation as always."""
    try:
        answer = await context.calls(AVAILABILITY, AvailabilityRequest(skus=skus))
    except (Unavailable, DeadlineExceeded):
        return None
    return {stock.sku: stock.available for stock in answer.stock}


def _check_stock(order: PlaceOrder, available: dict[str, int] | None) -> None:
    """Refuse at once what can't be served now."""
    if available is None:
        return
    short = [
        {"field": f"lines.{place}.quantity", "rule": f"{line.quantity} of {line.sku} wanted, {available.get(line.sku, 0)} available"}
        for place, line in enumerate(order.lines)
        if available.get(line.sku, 0) < line.quantity
    ]
    if short:
        raise OutOfStock(f"{len(short)} of the lines are not in stock", errors=short[:50])


class OutOfStock(Conflict):
    title, slug = "Not in stock", "out-of-stock"
