"""What the timeline of an order reads: its notifications, the oldest first."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, select

from caravan.database import Database
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.notifications.messages import NotificationState
from services.notifications.tables import Notification

MAILS_SHOWN = 500


class MailRow(NamedTuple):
    id: UUID
    kind: str
    channel: str
    state: NotificationState
    attempts: int
    created_at: datetime
    due_at: datetime
    sent_at: datetime | None
    subject: str | None
    reason: str | None


_LIST = Query(
    select(*list_columns(Notification, MailRow))
    .where(col(Notification.order_id) == bindparam("order_id"))
    .order_by(col(Notification.id))
    .limit(bindparam("limit")),
    MailRow,
)


async def list_mails(database: Database, order_id: UUID) -> list[MailRow]:
    return await _LIST.fetch_all(database, order_id=order_id, limit=MAILS_SHOWN)
