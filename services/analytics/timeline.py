"""What the audit log tells of an order's timeline: what staff, customers and services did to it, as recorded."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from caravan.audit import AUDIT
from caravan.bus import Subscription
from caravan.timeline import HandledMessage, TimelineEntry, TimelinePart, find_causes
from services.analytics.store import records
from services.analytics.store.records import AuditFilter

RECORDS_SHOWN = 500


async def describe_audit(context: Any, order_id: UUID, _: Sequence[HandledMessage]) -> TimelinePart:
    """Each record is a message of the topic `audit` and has its id; its cause is that of the message."""
    rows = await records.search_records(context.database, AuditFilter(target=f"order:{order_id}"), None, RECORDS_SHOWN)
    causes = await find_causes(context.database, Subscription(context.service, AUDIT).name, [row["id"] for row in rows])
    return TimelinePart(
        entries=[
            TimelineEntry(
                id=str(row["id"]),
                source="audit",
                kind=row["action"],
                subject=f"audit:{row['id']}",
                time=row["time"],
                cause=str(cause) if (cause := causes.get(row["id"])) else None,
                actor=row["actor"],
                trace_id=row["trace_id"],
                details={"result": row["result"], **orjson.loads(row["details"])},
                is_internal=True,
            )
            for row in reversed(rows)
        ]
    )
