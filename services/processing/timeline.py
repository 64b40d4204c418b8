"""What the saga tells of an order's timeline: each step that it took, with the message that it followed."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from caravan.timeline import HandledMessage, TimelineEntry, TimelinePart
from services.processing import store
from services.processing.model import Step

ANNOUNCEMENTS: dict[Step, str] = {
    "reserve_stock": "inventory.ReserveStock",
    "release_stock": "inventory.ReleaseStock",
    "capture_payment": "payments.CapturePayment",
    "refund_payment": "payments.RefundPayment",
    "ship_order": "shipping.ShipOrder",
    "cancel_shipment": "shipping.CancelShipment",
    "publish_undone": "processing.OrderUndone",
    "refuse_cancellation": "processing.CancellationRefused",
    "publish_completed": "processing.OrderProcessed",
    "publish_rejected": "processing.OrderProcessed",
    "publish_payment_failed": "processing.OrderProcessed",
    "publish_cancelled": "processing.OrderProcessed",
}
"""The message that each step sends."""


async def describe_saga(context: Any, order_id: UUID, _: Sequence[HandledMessage]) -> TimelinePart:
    row = await store.find_saga(context.database, order_id)
    return TimelinePart(entries=build_entries(row) if row else [])


def build_entries(row: store.SagaRow) -> list[TimelineEntry]:
    return [
        TimelineEntry(
            id=f"saga:{number}",
            source="saga",
            kind=taken.step,
            subject="saga",
            time=taken.time,
            cause=taken.cause,
            announces=[ANNOUNCEMENTS[taken.step]],
            state={"stock": taken.stock, "money": taken.money, "parcel": taken.parcel},
            is_internal=True,
        )
        for number, taken in enumerate(row.list_steps(), 1)
    ]
