"""An order as the fold of its events. Moves are methods that return the events of the move, or raise IllegalMove.

What other services report is a fact and is recorded once, whenever it comes; the status only ever moves up this ladder,
so that facts may overtake each other:

    created → reserved → paid → shipped → delivered
    rejected, payment_failed, cancelled, refunded: the ends of the other ways
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from caravan.errors import Conflict, InvalidRequest
from caravan.events import EventStore
from caravan.messages import Event
from caravan.money import MAX_AMOUNT, Money
from services.orders.messages import (
    Address,
    CancellationState,
    OrderCancellationRefused,
    OrderCancelled,
    OrderCreated,
    OrderLine,
)

OrderStatus = Literal[
    "created", "reserved", "paid", "shipped", "delivered", "rejected", "payment_failed", "cancelled", "refunded"
]

RANK: dict[str, int] = {
    "created": 0,
    "reserved": 1,
    "paid": 2,
    "shipped": 3,
    "delivered": 4,
    "rejected": 9,
    "payment_failed": 9,
    "cancelled": 9,
    "refunded": 9,
}
TERMINAL = frozenset({"delivered", "rejected", "payment_failed", "cancelled", "refunded"})


class IllegalMove(Conflict):
    title, slug = "The order is not in a state for this", "illegal-move"


class InventoryReserved(Event):
    """All lines are reserved."""


class InventoryRejected(Event):
    reason: str


class PaymentCompleted(Event):
    amount: Money
    attempt: int
    invoice_number: str


class PaymentFailed(Event):
    reason: str


class OrderShipped(Event):
    carrier: str
    tracking_number: str


class OrderDelivered(Event):
    tracking_number: str


class CancellationRequested(Event):
    reason: str


class CancellationRefused(Event):
    """Stands in old streams only: today it is OrderCancellationRefused."""

    reason: str


STATUS_BY_EVENT: dict[type[Event], OrderStatus] = {
    InventoryReserved: "reserved",
    InventoryRejected: "rejected",
    PaymentCompleted: "paid",
    PaymentFailed: "payment_failed",
    OrderShipped: "shipped",
    OrderDelivered: "delivered",
}
"""What a reported fact makes of an order."""


def _remove_token(data: dict[str, Any]) -> dict[str, Any]:
    """The first version held the payment's token, which no event carries any more."""
    return {name: value for name, value in data.items() if name != "payment_token"}


EVENT_STORE = EventStore(
    [
        OrderCreated,
        OrderCancelled,
        OrderCancellationRefused,
        CancellationRequested,
        CancellationRefused,
        *STATUS_BY_EVENT,
    ],
    upcasts={("orders.OrderCreated", 1): _remove_token},
)


@dataclass(slots=True)
class Order:
    """The state after some events. Cheap to fold: it refers to the created event instead of copying it."""

    created: OrderCreated | None = field(default=None, init=False)
    status: OrderStatus = "created"
    version: int = 0
    event_types: set[type[Event]] = field(default_factory=set, init=False)
    cancelling: bool = False
    cancellation: CancellationState | None = None
    cancellation_reason: str | None = None
    """Why it was asked for; why it was refused, when it was."""
    reason: str | None = None
    invoice_number: str | None = None
    tracking_number: str | None = None
    refunded: Money | None = field(default=None, kw_only=True)
    updated_at: datetime | None = None

    def apply(self, event: Event, time: datetime | None = None) -> None:
        self.version += 1
        self.updated_at = time
        self.event_types.add(type(event))
        match event:
            case OrderCreated():
                self.created = event
            case CancellationRequested(reason=reason):
                self.cancelling = True
                self.cancellation, self.cancellation_reason = "requested", reason
            case CancellationRefused(reason=reason) | OrderCancellationRefused(reason=reason):
                self.cancelling = False
                self.cancellation, self.cancellation_reason = "refused", reason
                if isinstance(event, OrderCancellationRefused):
                    self.reason = self.reason or reason  # an end that has a reason of its own keeps it
            case OrderCancelled(reason=reason, refunded=refunded):
                self._raise_status("refunded" if refunded else "cancelled")
                self.reason, self.refunded, self.cancelling = reason, refunded, False
                self.cancellation, self.cancellation_reason = "completed", reason
            case _:
                self._raise_status(STATUS_BY_EVENT[type(event)])
                self._apply_details(event)

    def _raise_status(self, status: OrderStatus) -> None:
        if RANK[status] > RANK[self.status]:
            self.status = status

    def _apply_details(self, event: Event) -> None:
        match event:
            case InventoryRejected(reason=reason) | PaymentFailed(reason=reason):
                self.reason = reason
            case PaymentCompleted(invoice_number=number):
                self.invoice_number = number
            case OrderShipped(tracking_number=number):
                self.tracking_number = number

    @property
    def has_ended(self) -> bool:
        return self.status in TERMINAL

    @property
    def is_awaiting_payment(self) -> bool:
        return self.status in ("created", "reserved")

    def record_report(self, event: Event) -> list[Event]:
        """Record a reported fact, once. An order has one end: the first."""
        if type(event) in self.event_types or (self.has_ended and STATUS_BY_EVENT[type(event)] in TERMINAL):
            return []
        return [event]

    def request_cancellation(self, reason: str) -> list[Event]:
        """Ask for everything to be undone; asking twice is asking once. IllegalMove once the parcel has left or the
        order has ended.
        """
        if self.cancelling or self.status in ("cancelled", "refunded"):
            return []
        if RANK[self.status] >= RANK["shipped"]:
            raise IllegalMove(f"the order is {self.status}: it can't be cancelled any more")
        return [CancellationRequested(reason=reason)]

    def complete_cancellation(self, reason: str, refunded: Money | None) -> list[Event]:
        """A cancellation has run its course."""
        if self.created is None or self.has_ended:
            return []
        created = self.created
        return [
            OrderCancelled(
                order_id=created.order_id,
                user_id=created.user_id,
                email=created.email,
                reason=reason,
                refunded=refunded,
            )
        ]

    def refuse_cancellation(self, reason: str) -> list[Event]:
        if self.created is None or not self.cancelling:
            return []
        created = self.created
        return [
            OrderCancellationRefused(
                order_id=created.order_id, user_id=created.user_id, email=created.email, reason=reason
            )
        ]


def fold_events(events: Iterable[tuple[Event, datetime | None]]) -> Order:
    order = Order()
    for event, time in events:
        order.apply(event, time)
    return order


@dataclass(frozen=True, slots=True)
class OfferedProduct:
    """What catalog asks for a sku now."""

    sku: str
    name: str
    category: str
    price: Money


def create_order(
    order_id: UUID,
    user_id: UUID,
    email: str,
    customer_name: str,
    lines: Iterable[tuple[OfferedProduct, int]],
    address: Address,
    method: str,
    now: datetime,
) -> OrderCreated:
    """The first event of an order, with names and prices frozen. Raises Conflict when the lines don't share a
    currency.
    """
    order_lines: list[OrderLine] = []
    total, currency = 0, ""
    for product, quantity in lines:
        currency = currency or product.price.currency
        if product.price.currency != currency:
            raise Conflict(
                f"{product.sku} is priced in {product.price.currency}, the order in {currency}: order them apart"
            )
        total += product.price.amount * quantity
        order_lines.append(
            OrderLine(
                sku=product.sku,
                name=product.name,
                category=product.category,
                quantity=quantity,
                unit_price=product.price.amount,
            )
        )
    if total > MAX_AMOUNT:
        raise InvalidRequest(
            f"the order comes to {total} {currency} in minor units; at most {MAX_AMOUNT} are taken",
            errors=[{"field": "lines", "rule": f"must come to at most {MAX_AMOUNT} minor units"}],
        )
    return OrderCreated(
        order_id=order_id,
        user_id=user_id,
        email=email,
        customer_name=customer_name,
        lines=order_lines,
        total=Money(amount=total, currency=currency),
        shipping_address=address,
        payment_method=method,
        placed_at=now,
    )
