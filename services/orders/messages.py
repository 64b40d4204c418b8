"""What orders publishes: on its topics, and as announcements on the exchange `orders`."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from caravan.messages import KEPT, Event, Exchange, Topic
from caravan.money import Money

CancellationState = Literal["requested", "refused", "completed"]


class OrderLine(BaseModel):
    """A line with the name and the price of the moment when the order was placed."""

    sku: str
    name: str
    category: str
    quantity: int
    unit_price: int
    """Minor units of the order's currency."""


class Address(BaseModel):
    name: str
    street: str
    city: str
    postcode: str
    """Empty where the country has none; orders of before, and of other books, may hold anything."""
    country: str
    """ISO 3166-1 alpha-2."""

    def as_text(self) -> str:
        """A line each for name, street, postcode with city, and country: as invoices and parcels show it."""
        return "\n".join((self.name, self.street, f"{self.postcode} {self.city}".strip(), self.country))


class OrderCreated(Event):
    """An order was accepted. It holds the customer's e-mail and name as they were, so that later changes of the account
    don't change it.
    """

    version = 2

    order_id: UUID
    user_id: UUID
    email: str
    customer_name: str
    lines: list[OrderLine]
    total: Money
    shipping_address: Address
    payment_method: str
    placed_at: datetime


class OrderCancelled(Event):
    """A cancellation is complete. `refunded` is what was given back, None when nothing had been captured."""

    order_id: UUID
    user_id: UUID
    email: str
    reason: str
    refunded: Money | None


class OrderCancellationRefused(Event):
    """A cancellation that had been accepted came too late; the order goes on, or has ended otherwise. `reason` is for
    its customer.
    """

    order_id: UUID
    user_id: UUID
    email: str
    reason: str


ORDER_CREATED = Topic(
    "order-created",
    owner="orders",
    events=(OrderCreated,),
    key="order id",
    purpose="An order was accepted.",
    retention=KEPT,
)
ORDER_CANCELLED = Topic(
    "order-cancelled",
    owner="orders",
    events=(OrderCancelled,),
    key="order id",
    purpose="An order was cancelled, stock and money given back.",
    retention=KEPT,
)
ORDERS = Exchange(
    "orders",
    owner="orders",
    routes={
        "order.created": OrderCreated,
        "order.cancelled": OrderCancelled,
        "order.cancellation-refused": OrderCancellationRefused,
    },
    key="order id",
    purpose="Short-lived announcements of orders to whoever binds a queue.",
)
CHANNELS = (ORDER_CREATED, ORDER_CANCELLED, ORDERS)
