"""What notifications answers to other services."""

from uuid import UUID

from pydantic import BaseModel

from caravan.client import Operation


class LatestNotificationsRequest(BaseModel):
    user_id: UUID
    limit: int = 5


class NotificationSummary(BaseModel):
    id: UUID
    kind: str
    channel: str
    state: str
    subject: str | None
    created_at: str


class LatestNotifications(BaseModel):
    """The newest first."""

    items: list[NotificationSummary]


LIST_LATEST_NOTIFICATIONS = Operation(
    "notifications", "latest", LatestNotificationsRequest, LatestNotifications, owner="user_id"
)
