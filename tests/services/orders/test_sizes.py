"""Whatever follows from an order that was accepted fits into its message, too: the order's own is the largest of its
life.
"""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.clock import new_id
from caravan.messages import MAX_BYTES, Channel, Message, MessageTooLarge, encode_message
from caravan.money import Money
from services.inventory.messages import (
    INVENTORY_REJECTED,
    RESERVE_STOCK,
    InventoryRejected,
    ReserveStock,
    Shortage,
    StockLine,
)
from services.orders import model
from services.orders.messages import ORDER_CREATED, ORDERS, Address
from services.orders.schemas import MAX_LINES, MAX_QUANTITY
from services.orders.use_cases import place
from services.payments.messages import EXPECT_PAYMENT
from services.processing import use_cases as processing
from services.shipping.messages import ORDER_SHIPPED, SHIP_ORDER, OrderShipped

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIGNS = ("a", '"', "\\", "é", "水", "\U0001f9e6")
"""One to four bytes in UTF-8, and those that JSON writes as two signs."""


def encoded(channel: Channel, message: Message, **cause: Any) -> int:
    return len(
        encode_message(
            message,
            channel,
            key=str(new_id()),
            source="orders",
            time=NOW,
            traceparent="00-" + "a" * 52,
            actor="a" * 100,
            **cause,
        ).body
    )


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, MAX_LINES) | st.integers(MAX_LINES - 200, MAX_LINES),
    sign=st.sampled_from(SIGNS),
    name=st.integers(1, 200),
    category=st.integers(1, 60),
    sku=st.integers(4, 40),
    quantity=st.sampled_from([1, MAX_QUANTITY]),
    price=st.sampled_from([1, 10**6]),
)
def test_what_follows_from_an_accepted_order_is_never_too_large(
    count: int, sign: str, name: int, category: int, sku: int, quantity: int, price: int
) -> None:
    lines = [
        (
            model.OfferedProduct(f"{number:0{sku}d}", sign * name, "c" * category, Money(amount=price, currency="GBP")),
            quantity,
        )
        for number in range(count)
    ]
    text = sign * 200
    address = Address(name=text, street=text, city=text, postcode=sign * 20, country="GB")
    created = model.create_order(new_id(), new_id(), "e" * 250, sign * 100, lines, address, "card", NOW)
    try:
        size = encoded(ORDER_CREATED, created)
        encoded(ORDERS, created)
        encoded(EXPECT_PAYMENT, place._build_expect_payment(created, "t" * 100))
    except MessageTooLarge:
        assert count > 100, "an order of a hundred lines is always taken"
        return
    assert size <= MAX_BYTES
    cause = str(new_id())
    shortages = [Shortage(sku=line.sku, wanted=quantity, available=quantity - 1) for line in created.lines]
    shipment = processing._build_ship_order(created)
    shipped = OrderShipped(
        order_id=created.order_id,
        email=created.email,
        carrier="c" * 50,
        tracking_number="t" * 50,
        parcels=shipment.parcels,
    )
    stock = [StockLine(sku=line.sku, quantity=line.quantity) for line in created.lines]
    for channel, message in (
        (RESERVE_STOCK, ReserveStock(order_id=created.order_id, lines=stock)),
        (INVENTORY_REJECTED, InventoryRejected(order_id=created.order_id, shortages=shortages)),
        (SHIP_ORDER, shipment),
        (ORDER_SHIPPED, shipped),
    ):
        encoded(channel, message, causation_id=cause)
