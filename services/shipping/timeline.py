"""What the shipment tells of an order's timeline: the command, the calls to the carrier, and what came of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from caravan.telemetry import parse_trace_id
from caravan.timeline import CauseFinder, HandledMessage, TimelineEntry, TimelinePart
from services.shipping import store


async def describe_shipment(context: Any, order_id: UUID, handled: Sequence[HandledMessage]) -> TimelinePart:
    row = await store.find_shipment(context.database, order_id)
    return TimelinePart(entries=build_entries(row, CauseFinder(handled)) if row else [])


def build_entries(row: store.ShipmentRow, causes: CauseFinder) -> list[TimelineEntry]:
    """The row knows who asked for the shipment, not who stopped it."""
    entries: list[TimelineEntry] = []

    def add_entry(source: str, status: str, time: datetime | None, cause: str | None, announces: str = "") -> None:
        if time is None:
            return
        is_call, is_stop = source == "carrier", status == "cancelled"
        entries.append(
            TimelineEntry(
                id=f"shipment:{status}",
                source=source,
                kind=f"shipment_{status}",
                subject="shipment",
                time=time,
                cause=cause,
                announces=[announces] if announces else [],
                actor=None if is_call or is_stop else row.actor,
                trace_id=None if is_stop else parse_trace_id(row.traceparent),
                state={"status": status},
                details={"carrier": row.carrier, "tracking_number": row.tracking_number} if is_call else {},
                internal={"key": str(row.order_id)} if is_call else {},
            )
        )

    stop = causes.take_cause("shipping.CancelShipment") if row.cancelled_at else None
    command = str(row.cause) if row.cause else stop
    add_entry("shipments", "requested", row.requested_at, command)
    add_entry("carrier", "shipped", row.shipped_at, "shipment:requested", "shipping.OrderShipped")
    add_entry("carrier", "delivered", row.delivered_at, "shipment:shipped", "shipping.OrderDelivered")
    add_entry("shipments", "cancelled", row.cancelled_at, stop, "shipping.ShipmentCancelled")
    return entries
