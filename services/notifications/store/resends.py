"""The queries of a notification that staff sends again."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, func, null, select, update

from caravan.database import UnitOfWork
from caravan.database.query import Query
from caravan.database.tables import col, get_table, list_columns
from services.notifications import tables
from services.notifications.messages import ChannelName, NotificationState
from services.notifications.model import ChannelChoice, Priority


class NotificationRecord(NamedTuple):
    """A notification as it is listed."""

    id: UUID
    about: str
    kind: str
    channel: ChannelName
    state: NotificationState
    recipient: str
    subject: str | None
    created_at: datetime
    sent_at: datetime | None
    attempts: int
    reason: str | None


class ResendableNotification(NamedTuple):
    """A notification that may be sent again; `email`: its user's address now, where the user is known."""

    about: str
    kind: str
    user_id: UUID | None
    channel: ChannelName
    recipient: str
    priority: Priority
    state: NotificationState
    has_values: bool
    email: str | None
    is_campaign_stopped: bool


_IS_NOTIFICATION = col(tables.Notification.id) == bindparam("id")
_GET = Query(
    select(*list_columns(tables.Notification, NotificationRecord)).where(
        col(tables.Notification.id) == bindparam("id")
    ),
    NotificationRecord,
)
_LOCK = Query(
    select(
        col(tables.Notification.about),
        col(tables.Notification.kind),
        col(tables.Notification.user_id),
        col(tables.Notification.channel),
        col(tables.Notification.recipient),
        col(tables.Notification.priority),
        col(tables.Notification.state),
        col(tables.Notification.values).is_not(None),
        col(tables.Recipient.email),
        func.coalesce(col(tables.Campaign.stopped), False),
    )
    .outerjoin(tables.Recipient, col(tables.Recipient.user_id) == col(tables.Notification.user_id))
    .outerjoin(tables.CampaignRun, col(tables.CampaignRun.id) == col(tables.Notification.run_id))
    .outerjoin(tables.Campaign, col(tables.Campaign.id) == col(tables.CampaignRun.campaign_id))
    .where(_IS_NOTIFICATION)
    .with_for_update(of=get_table(tables.Notification)),
    ResendableNotification,
)
_REQUEUE = Query(
    update(tables.Notification)
    .where(_IS_NOTIFICATION)
    .values(
        state="pending",
        attempts=0,
        reason=null(),
        sent_at=null(),
        discarded_at=null(),
        due_at=bindparam("now"),
        channel=bindparam("channel"),
        recipient=bindparam("recipient"),
        resends=col(tables.Notification.resends) + 1,
    )
)


async def lock_resendable(uow: UnitOfWork, notification_id: UUID) -> ResendableNotification | None:
    return await _LOCK.fetch_one(uow, id=notification_id)


async def requeue_notification(
    uow: UnitOfWork, notification_id: UUID, choice: ChannelChoice, now: datetime
) -> NotificationRecord:
    """Make it due with all its attempts, under another key; as it is then."""
    await _REQUEUE.execute(uow, id=notification_id, channel=choice.channel, recipient=choice.recipient, now=now)
    record = await _GET.fetch_one(uow, id=notification_id)
    assert record is not None
    return record
