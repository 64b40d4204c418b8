"""What the event store tells of an order's timeline: each event, with the message that it was recorded for."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from caravan.events import RecordedEvent
from caravan.messages import Event
from caravan.timeline import CauseFinder, HandledMessage, TimelineEntry, TimelinePart
from services.orders import model
from services.orders.messages import OrderCancellationRefused, OrderCancelled, OrderCreated
from services.orders.store import streams

CAUSES: dict[type[Event], str] = {
    model.InventoryReserved: "inventory.InventoryReserved",
    model.InventoryRejected: "processing.OrderProcessed",
    model.PaymentCompleted: "payments.PaymentCompleted",
    model.PaymentFailed: "processing.OrderProcessed",
    model.OrderShipped: "shipping.OrderShipped",
    model.OrderDelivered: "shipping.OrderDelivered",
    OrderCancelled: "processing.OrderUndone",
    OrderCancellationRefused: "processing.CancellationRefused",
}
"""The message that reports each fact (`consumers.py`)."""
ANNOUNCEMENTS: dict[type[Event], list[str]] = {
    OrderCreated: ["orders.OrderCreated", "orders.OrderCreated", "payments.ExpectPayment"],
    model.CancellationRequested: ["processing.CancelOrder"],
    OrderCancelled: ["orders.OrderCancelled", "orders.OrderCancelled"],
    OrderCancellationRefused: ["orders.OrderCancellationRefused"],
}
"""The messages that are sent with each event: a topic's and an exchange's are two."""
PERSONAL_FIELDS = frozenset({"email", "customer_name", "shipping_address"})
STATE_FIELDS = ("status", "version", "cancelling", "cancellation", "reason", "invoice_number", "tracking_number")


async def describe_order(context: Any, order_id: UUID, handled: Sequence[HandledMessage]) -> TimelinePart:
    recorded_events = await streams.load_events(context.database, order_id)
    return TimelinePart(entries=build_entries(recorded_events, CauseFinder(handled)))


def build_entries(recorded_events: Sequence[RecordedEvent], causes: CauseFinder) -> list[TimelineEntry]:
    order = model.Order()
    entries: list[TimelineEntry] = []
    for item in recorded_events:
        order.apply(item.event, item.time)
        event_type = type(item.event)
        entries.append(
            TimelineEntry(
                id=f"event:{item.version}",
                source="events",
                kind=event_type.__name__,
                subject="order",
                time=item.time,
                cause=causes.take_cause(CAUSES[event_type]) if event_type in CAUSES else None,
                announces=ANNOUNCEMENTS.get(event_type, []),
                actor=item.actor,
                trace_id=item.trace_id,
                state={
                    **{name: getattr(order, name) for name in STATE_FIELDS},
                    "refunded": order.refunded.model_dump() if order.refunded else None,
                },
                details=item.event.model_dump(mode="json", exclude=set(PERSONAL_FIELDS)),
            )
        )
    return entries
