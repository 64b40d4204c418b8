"""Users' preferences, and the notifications that were sent to them."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from caravan.clock import format_rfc3339
from caravan.database import UnitOfWork
from caravan.errors import InvalidRequest, NotFound
from services.notifications.client import LatestNotifications, LatestNotificationsRequest, NotificationSummary
from services.notifications.model import DEFAULT_PREFERENCE, Category, Preference
from services.notifications.signatures import parse_link_token
from services.notifications.store import campaigns, notifications, preferences
from services.notifications.use_cases import NotificationsContext


async def get_preference(context: NotificationsContext, user_id: UUID) -> Preference:
    return (await preferences.find_preferences(context.database, [user_id])).get(user_id, DEFAULT_PREFERENCE)


async def change_preference(
    context: NotificationsContext, user_id: UUID, changes: dict[str, Any], check_version: Callable[[int], None]
) -> Preference:
    """Apply the named fields. `check_version` raises when the caller had read another version."""
    async with context.database.unit_of_work() as uow:
        before = await preferences.lock_preference(uow, user_id)
        check_version(before.version)
        return await _save_preference(uow, user_id, before, changes)


def find_category(context: NotificationsContext, token: str) -> Category | None:
    """What the token of a mail ends; None when it is none of ours."""
    link = parse_link_token(context.resources.unsubscribe_secret, token)
    return None if link is None or link[1] == "preferences" else link[1]


async def unsubscribe(context: NotificationsContext, token: str) -> Category:
    """End the messages of a category to the user whose mail carried the token."""
    link = parse_link_token(context.resources.unsubscribe_secret, token)
    if link is None or link[1] == "preferences":
        raise NotFound(
            "this link to unsubscribe is not one of ours; change your preferences at /v1/users/me/preferences instead"
        )
    user_id, category = link[0], link[1]
    async with context.database.unit_of_work() as uow:
        before = await preferences.lock_preference(uow, user_id)
        if category not in before.opt_out:
            await _save_preference(uow, user_id, before, {"opt_out": before.opt_out | {category}})
    return category


def find_preference_owner(context: NotificationsContext, token: str) -> UUID | None:
    """Whose preferences a mail's link leads to; None when it is none of ours."""
    link = parse_link_token(context.resources.unsubscribe_secret, token)
    return link[0] if link and link[1] == "preferences" else None


async def _save_preference(uow: UnitOfWork, user_id: UUID, before: Preference, changes: dict[str, Any]) -> Preference:
    after = Preference(
        changes.get("channel", before.channel),
        changes.get("phone", before.phone),
        frozenset(changes.get("opt_out", before.opt_out)),
        before.version + 1,
        changes.get("time_zone", before.time_zone),
    )
    if after.channel == "sms" and not after.phone:
        raise InvalidRequest(
            "the channel sms needs a phone number", errors=[{"field": "phone", "rule": "is needed for the channel sms"}]
        )
    await preferences.save_preference(uow, user_id, after)
    if "promotions" in after.opt_out - before.opt_out:
        await campaigns.suppress_pending(uow, user_id)
    return after


async def list_latest_notifications(
    context: NotificationsContext, request: LatestNotificationsRequest
) -> LatestNotifications:
    """What was last sent to a user, or is about to be."""
    rows = await notifications.list_notifications(
        context.database, limit=request.limit, before=None, user_id=request.user_id
    )
    return LatestNotifications(
        items=[
            NotificationSummary.model_validate({**row, "created_at": format_rfc3339(row["created_at"])}) for row in rows
        ]
    )
