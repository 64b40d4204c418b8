"""Place an order. Customer, products and stock are looked up first; then the order is stored and announced by one
statement.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from caravan import failpoint
from caravan.auth import Caller
from caravan.clock import new_id
from caravan.database import UnitOfWork
from caravan.errors import Conflict, DeadlineExceeded, Forbidden, InvalidRequest, ServiceUnavailable
from caravan.messages import MessageTooLarge
from caravan.postcodes import UNKNOWN
from services.catalog.client import GET_OFFERS, OffersRequest
from services.inventory.client import GET_AVAILABILITY, AvailabilityRequest
from services.orders import model
from services.orders.messages import ORDER_CREATED, ORDERS, OrderCreated
from services.orders.metrics import count_orders
from services.orders.schemas import AcceptedOrder, OrderRequest
from services.orders.use_cases import OrdersContext
from services.payments.messages import EXPECT_PAYMENT, ExpectPayment, InvoiceLine

ResponseT = TypeVar("ResponseT")


async def place_order(
    context: OrdersContext,
    caller: Caller,
    order: OrderRequest,
    store_response: Callable[[UnitOfWork, AcceptedOrder], ResponseT],
) -> ResponseT:
    """Ask identity, catalog and inventory first, then store and announce the order in one statement. `store_response`
    stores the response with it.
    """
    _check_postcode(order, caller)
    skus = [line.sku for line in order.lines]
    status, offers, available = await asyncio.gather(
        context.resources.customer_statuses.get_status(caller.user_id),
        context.call(GET_OFFERS, OffersRequest(skus=skus)),
        _find_available_units(context, skus),
    )
    if not status.active:
        raise Forbidden("your account is disabled; it can't order")
    offers_by_sku = {offer.sku: offer for offer in offers.offers}
    _check_offers(skus, offers_by_sku)
    _check_stock(order, available)
    order_created = model.create_order(
        new_id(),
        caller.user_id,
        status.email,
        status.name,
        [
            (model.OfferedProduct(o.sku, o.name, o.category, o.price), line.quantity)
            for line in order.lines
            if (o := offers_by_sku[line.sku])
        ],
        order.shipping_address.as_written(),
        order.payment.method,
        context.clock(),
    )
    try:
        async with context.database.unit_of_work() as uow:
            uow.append(order_created.order_id, 0, [order_created])
            uow.emit(ORDER_CREATED, order_created, key=order_created.order_id)
            uow.emit(ORDERS, order_created, key=order_created.order_id)
            uow.emit(
                EXPECT_PAYMENT, _build_expect_payment(order_created, order.payment.token), key=order_created.order_id
            )
            response = store_response(
                uow,
                AcceptedOrder(
                    id=order_created.order_id, version=1, total=order_created.total, placed_at=order_created.placed_at
                ),
            )
            failpoint.hit("orders.place.before_commit")
    except MessageTooLarge:
        raise InvalidRequest(
            f"{len(order_created.lines)} lines with names this long are more than one order can hold; order them as "
            "several",
            errors=[{"field": "lines", "rule": "their names and categories are too long together; send fewer lines"}],
        ) from None
    failpoint.hit("orders.place.after_commit")
    count_orders(["created"])
    context.wake("project-orders")
    return response


def _check_postcode(order: OrderRequest, caller: Caller) -> None:
    if order.shipping_address.postcode == UNKNOWN and caller.actor is None:
        rule = "0 stands for a postcode that is not known; give your own"
        raise InvalidRequest(
            f"shipping_address.postcode: {rule}", errors=[{"field": "shipping_address.postcode", "rule": rule}]
        )


def _check_offers(skus: list[str], offers_by_sku: Mapping[str, object]) -> None:
    errors = [
        {"field": f"lines.{index}.sku", "rule": f"{sku} is not for sale"}
        for index, sku in enumerate(skus)
        if sku not in offers_by_sku
    ]
    if errors:
        raise InvalidRequest(f"{len(errors)} of the lines name products that are not for sale", errors=errors[:50])


def _build_expect_payment(order: OrderCreated, token: str) -> ExpectPayment:
    """For payments alone: the token is in no event."""
    return ExpectPayment(
        order_id=order.order_id,
        user_id=order.user_id,
        email=order.email,
        customer_name=order.customer_name,
        amount=order.total,
        method=order.payment_method,
        token=token,
        lines=[
            InvoiceLine(sku=line.sku, name=line.name, quantity=line.quantity, unit_price=line.unit_price)
            for line in order.lines
        ],
        billing_address=order.shipping_address.as_text(),
    )


async def _find_available_units(context: OrdersContext, skus: list[str]) -> dict[str, int] | None:
    """What is available of each sku; None when inventory is unavailable or slow: then the saga decides, with a
    reservation as always.
    """
    try:
        availabilities = await context.call(GET_AVAILABILITY, AvailabilityRequest(skus=skus))
    except (ServiceUnavailable, DeadlineExceeded):
        return None
    return {stock.sku: stock.available for stock in availabilities.stock}


def _check_stock(order: OrderRequest, available: dict[str, int] | None) -> None:
    """Refuse at once what can't be served now."""
    if available is None:
        return
    errors = [
        {
            "field": f"lines.{index}.quantity",
            "rule": f"{line.quantity} of {line.sku} wanted, {available.get(line.sku, 0)} available",
        }
        for index, line in enumerate(order.lines)
        if available.get(line.sku, 0) < line.quantity
    ]
    if errors:
        raise OutOfStock(f"{len(errors)} of the lines are not in stock", errors=errors[:50])


class OutOfStock(Conflict):
    title, slug = "Not in stock", "out-of-stock"
