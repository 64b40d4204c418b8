"""What inventory tells of an order's timeline: its reservation, and the ledger's movements for it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from caravan.timeline import CauseFinder, HandledMessage, TimelineEntry, TimelinePart
from services.inventory.model import Movement, Reservation
from services.inventory.store import reservation_table, timeline

MOVEMENT_CAUSES = {
    "reserve": ("inventory.ReserveStock",),
    "release": ("inventory.ReleaseStock", "orders.OrderCancelled"),
    "ship": ("shipping.OrderShipped",),
}
"""A release without one of them is an expiry."""


async def describe_stock(context: Any, order_id: UUID, handled: Sequence[HandledMessage]) -> TimelinePart:
    reservations = await reservation_table.find_reservations(context.database, [order_id])
    if order_id not in reservations:
        return TimelinePart()
    movements = await timeline.list_movements(context.database, order_id)
    return TimelinePart(entries=build_entries(reservations[order_id], movements, CauseFinder(handled)))


def build_entries(reservation: Reservation, movements: Sequence[Movement], causes: CauseFinder) -> list[TimelineEntry]:
    causes_by_kind = {kind: causes.take_cause(*types) for kind, types in MOVEMENT_CAUSES.items()}
    is_rejected = reservation.state == "rejected"
    entries = [
        TimelineEntry(
            id="reservation:made",
            source="reservations",
            kind="reservation_rejected" if is_rejected else "reservation_held",
            subject="reservation",
            time=reservation.created_at,
            cause=causes_by_kind["reserve"] or (None if movements else causes_by_kind["release"]),
            announces=["inventory.InventoryRejected" if is_rejected else "inventory.InventoryReserved"],
            state={"state": "rejected" if is_rejected else "held"},
            details={"shortages": [shortage.model_dump() for shortage in reservation.shortages]} if is_rejected else {},
        )
    ]
    entries += [
        TimelineEntry(
            id=f"stock:{movement.sku}:{movement.version}",
            source="stock",
            kind=f"stock_{movement.kind}",
            subject=f"stock:{movement.sku}",
            time=movement.time,
            cause=causes_by_kind.get(movement.kind),
            actor=movement.actor,
            state={"on_hand": movement.on_hand, "reserved": movement.reserved},
            details={"sku": movement.sku, "quantity": movement.quantity, "reason": movement.reason},
        )
        for movement in movements
    ]
    if reservation.state in ("released", "shipped"):
        entries.append(
            TimelineEntry(
                id=f"reservation:{reservation.state}",
                source="reservations",
                kind=f"reservation_{reservation.state}",
                subject="reservation",
                time=reservation.updated_at,
                cause=causes_by_kind["release" if reservation.state == "released" else "ship"],
                announces=["inventory.InventoryReleased"] if reservation.state == "released" else [],
                state={"state": reservation.state},
                details={"reason": reservation.reason} if reservation.reason else {},
            )
        )
    return entries
