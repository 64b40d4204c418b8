"""What each message changes of a saga, and that an old one changes nothing."""

import pytest

from caravan.clock import new_id
from caravan.money import Money
from services.inventory.messages import InventoryRejected, InventoryReleased, InventoryReserved, Shortage
from services.payments.messages import PaymentCompleted, PaymentFailed, PaymentRefunded
from services.processing.messages import CancelOrder
from services.processing.model import Saga, SagaMessage
from services.shipping.messages import OrderDelivered, OrderShipped, ShipmentCancelled

ORDER = new_id()
PRICE = Money(amount=1250, currency="GBP")
SHORTAGES = [Shortage(sku=f"SKU-{number}", wanted=2, available=0) for number in range(1, 8)]
CAPTURED = PaymentCompleted(order_id=ORDER, amount=PRICE, attempt=1, invoice_number="INV-1")


def make_saga(stock: str = "asked", money: str = "none", parcel: str = "none") -> Saga:
    return Saga(ORDER, has_order=True, stock=stock, money=money, parcel=parcel)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("saga", "message", "changes"),
    [
        (make_saga(), InventoryReserved(order_id=ORDER), {"stock": "held"}),
        (
            make_saga(),
            InventoryRejected(order_id=ORDER, shortages=SHORTAGES),
            {"stock": "rejected", "reason": "not enough stock of SKU-1, SKU-2, SKU-3, SKU-4, SKU-5"},
        ),
        (make_saga("releasing"), InventoryReleased(order_id=ORDER, reason="cancelled"), {"stock": "released"}),
        (
            make_saga("held"),
            InventoryReleased(order_id=ORDER, reason="expired"),
            {"stock": "released", "cancel_reason": "reservation expired"},
        ),
        (make_saga("held", "asked"), CAPTURED, {"money": "captured", "captured": 1250}),
        (
            make_saga("held", "asked"),
            PaymentFailed(order_id=ORDER, reason="declined", attempts=3),
            {"money": "failed", "reason": "declined"},
        ),
        (
            make_saga("held", "refunding"),
            PaymentRefunded(order_id=ORDER, amount=PRICE, reason="cancelled"),
            {"money": "refunded", "captured": 1250, "refunded": 1250},
        ),
        (
            make_saga("held", "captured", "asked"),
            OrderShipped(order_id=ORDER, email="a@example.com", carrier="post", tracking_number="T1", parcels=[]),
            {"parcel": "sent"},
        ),
        (
            make_saga("held", "captured", "sent"),
            OrderDelivered(order_id=ORDER, tracking_number="T1"),
            {"parcel": "delivered"},
        ),
        (make_saga("held", "captured", "stopping"), ShipmentCancelled(order_id=ORDER), {"parcel": "stopped"}),
        (make_saga(), CancelOrder(order_id=ORDER, reason="customer"), {"cancel_reason": "customer"}),
        (make_saga("held", "refunding"), CAPTURED, {}),
        (make_saga("held"), InventoryRejected(order_id=ORDER, shortages=SHORTAGES), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_message_moves_its_part_of_the_saga(saga: Saga, message: SagaMessage, changes: dict[str, object]) -> None:
    names = ("stock", "money", "parcel", "cancel_reason", "reason", "captured", "refunded")
    expected = {name: getattr(saga, name) for name in names} | changes
    saga.apply_message(message)
    assert {name: getattr(saga, name) for name in names} == expected
