"""Orders and products with a planted gap of each class, for the self-test: each is a good one with one change."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.reconciliation.model.books import StatementLine

Rows = dict[str, list[dict[str, Any]]]
_AMOUNT, _CURRENCY = 1990, "GBP"


@dataclass(frozen=True, slots=True)
class PlantedOrder:
    """`events`: names without their service. `lines`: kind, last part of the key, amount and currency."""

    events: tuple[str, ...] = (
        "OrderCreated",
        "InventoryReserved",
        "PaymentCompleted",
        "OrderShipped",
        "OrderDelivered",
    )
    payment: str = "completed"
    captured: tuple[int, ...] = (1,)
    refunded: int = 0
    reservation: str = "shipped"
    shipment: str = "delivered"
    shipped_units: int = 1
    is_closed: bool = True
    is_old: bool = False
    lines: tuple[tuple[str, str, int, str], ...] = field(default=(("capture", "1", _AMOUNT, _CURRENCY),))


_GOOD = PlantedOrder()
_CANCELLED = replace(
    _GOOD,
    events=("OrderCreated", "InventoryReserved", "PaymentCompleted", "CancellationRequested", "OrderCancelled"),
    payment="refunded",
    refunded=_AMOUNT,
    reservation="released",
    shipment="cancelled",
    lines=(*_GOOD.lines, ("refund", "refund", _AMOUNT, _CURRENCY)),
)
_DECLINED = replace(
    _GOOD,
    events=("OrderCreated", "InventoryReserved", "PaymentFailed"),
    payment="failed",
    captured=(),
    reservation="released",
    shipment="",
    lines=(),
)
_LOST_AND_REFUNDED = replace(
    _CANCELLED, events=(), reservation="", shipment="", is_closed=False, is_old=True
)  # after a restore; its saga heard of the refund alone
GOOD_ORDERS = (_GOOD, _CANCELLED, _DECLINED, _LOST_AND_REFUNDED)
PLANTED_ORDERS = {
    "captured_without_order": replace(_GOOD, events=(), reservation="", shipment=""),
    "shipped_without_order": replace(_GOOD, events=()),
    "paid_without_capture": replace(_GOOD, captured=(), lines=()),
    "double_capture": replace(_GOOD, lines=(*_GOOD.lines, ("capture", "2", _AMOUNT, _CURRENCY))),
    "refund_above_capture": replace(_CANCELLED, lines=(*_CANCELLED.lines, ("refund", "again", 500, _CURRENCY))),
    "refund_without_cause": replace(_GOOD, refunded=_AMOUNT, payment="refunded", lines=_CANCELLED.lines),
    "capture_not_returned": replace(_CANCELLED, payment="completed", refunded=0, lines=_GOOD.lines),
    "wrong_amount": replace(_GOOD, lines=(("capture", "1", _AMOUNT - 100, _CURRENCY),)),
    "wrong_currency": replace(_GOOD, lines=(("capture", "1", _AMOUNT, "EUR"),)),
    "entry_unknown_to_us": replace(_DECLINED, lines=_GOOD.lines),
    "entry_unknown_to_provider": replace(_GOOD, lines=()),
    "shipped_unpaid": replace(
        _GOOD, events=("OrderCreated", "InventoryReserved", "OrderShipped", "OrderDelivered"), captured=(), lines=()
    ),
    "leaked_reservation": replace(_DECLINED, reservation="held"),
    "shipped_without_stock": replace(_GOOD, reservation="released"),
    "wrong_units": replace(_GOOD, shipped_units=2),
    "order_stuck": replace(
        _DECLINED, events=("OrderCreated",), payment="expected", reservation="", is_closed=False, is_old=True
    ),
}
HELD_SKU, LOST_SKU, LEAKED_SKU, OVERSOLD_SKU = "held", "lost", "leaked", "oversold"
OUTBOX_CHANNEL = "payments.capture"


def build_rows(orders: dict[UUID, PlantedOrder], now: datetime, age: timedelta, old_age: timedelta) -> Rows:
    """The rows of all tables. Everything happened `age` ago, and `old_age` ago where it is old."""
    rows: Rows = {"order_amount": [], "event": [], "payment": [], "payment_attempt": []}
    rows |= {"refund": [], "reservation": [], "shipment": [], "saga": []}
    for order_id, planted in orders.items():
        time = (now - (old_age if planted.is_old else age)).isoformat()
        identity = {"order_id": str(order_id)}
        rows["event"] += [
            {"stream": str(order_id), "version": version, "type": f"orders.{name}", "time": time}
            for version, name in enumerate(planted.events, 1)
        ]
        if planted.events:
            lines = [{"sku": HELD_SKU, "quantity": 1}]
            rows["order_amount"].append({**identity, "amount": _AMOUNT, "currency": _CURRENCY, "lines": lines})
        if planted.events or not planted.is_closed:
            rows["saga"].append({**identity, "closed": planted.is_closed, "started_at": time})
        money = {"amount": _AMOUNT, "currency": _CURRENCY}
        rows["payment"].append({**identity, "status": planted.payment, **money, "updated_at": time})
        rows["payment_attempt"] += [
            {**identity, "attempt": attempt, "state": "captured", "started_at": time, "finished_at": time}
            for attempt in planted.captured
        ]
        if planted.refunded:
            refund = {"state": "done", "amount": planted.refunded, "requested_at": time, "refunded_at": time}
            rows["refund"].append({**identity, **refund})
        if planted.reservation:
            reservation = {"state": planted.reservation, "lines": {HELD_SKU: 1}, "updated_at": time}
            rows["reservation"].append({**identity, **reservation})
        if planted.shipment:
            parcels = [{"sku": HELD_SKU, "quantity": planted.shipped_units}]
            rows["shipment"].append(
                {**identity, "status": planted.shipment, "parcels": parcels, "requested_at": time, "shipped_at": time}
            )
    created_at = (now - old_age).isoformat()
    rows["outbox"] = [{"id": 1, "channel": OUTBOX_CHANNEL, "key": "a", "created_at": created_at}]
    return rows | _build_stock(sum(planted.reservation == "held" for planted in orders.values()))


def _build_stock(held: int) -> Rows:
    """A product as it should be, of which as much is held as orders hold; one whose row was written by hand, one that
    holds what no order does, and one of which less than nothing is left.
    """
    skus = {
        HELD_SKU: ([("receive", 100), ("reserve", held)], 100, held),
        LOST_SKU: ([("receive", 10)], 7, 0),
        LEAKED_SKU: ([("receive", 10), ("reserve", 2)], 10, 2),
        OVERSOLD_SKU: ([("receive", 1), ("adjust", -2)], -1, 0),
    }
    stock, movements = [], []
    for sku, (moves, on_hand, reserved) in skus.items():
        adjusted = sum(quantity for kind, quantity in moves if kind == "adjust")
        received = sum(quantity for kind, quantity in moves if kind == "receive")
        row = {"sku": sku, "version": len(moves), "on_hand": on_hand, "reserved": reserved}
        stock.append({**row, "shipped": 0, "received": received, "adjusted": adjusted})
        movements += [
            {"sku": sku, "version": version, "kind": kind, "quantity": quantity}
            for version, (kind, quantity) in enumerate(moves, 1)
        ]
    return {"stock": stock, "movement": movements}


def list_lines(order_id: UUID, planted: PlantedOrder, at: datetime) -> Iterator[StatementLine]:
    for kind, suffix, amount, currency in planted.lines:
        yield StatementLine(f"{order_id}:{suffix}", kind, amount, currency, at)
