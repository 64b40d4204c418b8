"""What notifications tell of an order's timeline: each message to the customer, by whatever channel, and what came of
it.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from caravan.timeline import CauseFinder, HandledMessage, TimelineEntry, TimelineGap, TimelinePart
from services.notifications.messages import CANCELLATION_REFUSED
from services.notifications.store import timeline
from services.notifications.store.timeline import MailRow

CAUSES = {
    "order_received": "orders.OrderCreated",
    "order_confirmed": "processing.OrderProcessed",
    "order_rejected": "processing.OrderProcessed",
    "payment_failed": "processing.OrderProcessed",
    "order_shipped": "shipping.OrderShipped",
    "order_cancelled": "orders.OrderCancelled",
    CANCELLATION_REFUSED: "orders.OrderCancellationRefused",
}
"""The event that each kind is made of (`consumers.py`)."""


async def describe_mails(context: Any, order_id: UUID, handled: Sequence[HandledMessage]) -> TimelinePart:
    rows = await timeline.list_mails(context.database, order_id)
    kept = timedelta(days=context.settings.retention_days)
    reason = f"notifications are kept for {kept.days} days (NOTIFICATIONS_RETENTION_DAYS)"
    return TimelinePart(
        entries=build_entries(rows, CauseFinder(handled)),
        gaps=[TimelineGap(source="mails", reason=reason, before=context.clock() - kept)],
    )


def build_entries(rows: Sequence[MailRow], causes: CauseFinder) -> list[TimelineEntry]:
    entries: list[TimelineEntry] = []
    for row in rows:
        cause = CAUSES.get(row.kind)
        request = TimelineEntry(
            id=f"mail:{row.id}",
            source="mails",
            kind=row.kind,
            subject=f"mail:{row.kind}",
            time=row.created_at,
            cause=causes.take_cause(cause) if cause else None,
            state={"state": "pending"},
            details={"channel": row.channel},
        )
        entries.append(request)
        if row.state != "pending":
            entries.append(
                TimelineEntry(
                    id=f"mail:{row.id}:{row.state}",
                    source="mails",
                    kind=f"{row.kind}_{row.state}",
                    subject=request.subject,
                    time=row.sent_at or row.due_at,
                    cause=request.id,
                    state={"state": row.state},
                    details={"channel": row.channel, "subject": row.subject, "attempts": row.attempts},
                    internal={"reason": row.reason} if row.reason else {},
                )
            )
    return entries
