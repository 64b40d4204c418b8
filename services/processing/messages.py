"""The command that processing takes and the outcome that it publishes."""

from typing import Literal
from uuid import UUID

from caravan.messages import KEPT, Command, Event, Queue, Topic
from caravan.money import Money

Outcome = Literal["completed", "rejected", "payment_failed", "cancelled"]


class CancelOrder(Command):
    """Undo an order as far as it has got, unless it has been shipped."""

    order_id: UUID
    reason: str


class OrderProcessed(Event):
    """Once per order: what came of it. `completed` means that it is paid and goes to shipping."""

    order_id: UUID
    user_id: UUID
    email: str
    outcome: Outcome
    reason: str
    total: Money


class OrderUndone(Event):
    """A cancellation has run its course: stock is back, money too. `refunded` is None when nothing had been
    captured.
    """

    order_id: UUID
    reason: str
    refunded: Money | None


class CancellationRefused(Event):
    """The parcel had left before it could be stopped."""

    order_id: UUID
    reason: str


CANCEL_ORDER = Queue(
    "processing.cancel-order",
    owner="processing",
    commands=(CancelOrder,),
    key="order id",
    purpose="Undo an order that has not been shipped.",
)
ORDER_PROCESSED = Topic(
    "order-processed",
    owner="processing",
    events=(OrderProcessed,),
    key="order id",
    purpose="The outcome of an order, once.",
    retention=KEPT,
)
ORDER_UNDONE = Topic(
    "order-undone",
    owner="processing",
    events=(OrderUndone, CancellationRefused),
    key="order id",
    purpose="How a cancellation ended.",
)
CHANNELS = (CANCEL_ORDER, ORDER_PROCESSED, ORDER_UNDONE)
