"""How users want to be reached, and what was sent to them."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from caravan.clock import rfc3339
from caravan.database import UnitOfWork
from caravan.errors import Invalid, NotFound
from services.notifications import store
from services.notifications.client import LatestNotifications, LatestRequest, NotificationSummary
from services.notifications.model import DEFAULT, Category, Preference, unsubscribed
from services.notifications.use_cases import NotificationsContext


async def read_preference(context: NotificationsContext, user_id: UUID) -> Preference:
    return (await store.preferences(context.database, [user_id])).get(user_id, DEFAULT)


async def change_preference(
    context: NotificationsContext, user_id: UUID, changes: dict[str, Any], check_version: Callable[[int], None]
) -> Preference:
    """Apply the named fields. `check_version` raises when the caller had read another version."""
    async with context.database.work() as work:
        before = await store.lock_preference(work, user_id)
        check_version(before.version)
        return await _save(work, user_id, before, changes)


def category_of(context: NotificationsContext, token: str) -> Category | None:
    """What the token of a mail ends; None when it is none of ours."""
    found = unsubscribed(context.parts.unsubscribe_secret, token)
    return found[1] if found else None


async def unsubscribe(context: NotificationsContext, token: str) -> Category:
    """End the messages of a category to the user whose mail carried the token."""
    found = unsubscribed(context.parts.unsubscribe_secret, token)
    if found is None:
        raise NotFound("this link to unsubscribe is not one of ours; change your preferences at /v1/users/me/preferences instead")
    async with context.database.work() as work:
        user_id, category = found
        before = await store.lock_preference(work, user_id)
        if category not in before.opt_out:
            await _save(work, user_id, before, {"opt_out": before.opt_out | {category}})
    return category


async def _save(work: UnitOfWork, user_id: UUID, before: Preference, changes: dict[str, Any]) -> Preference:
    after = Preference(
        changes.get("channel", before.channel),
        changes.get("phone", before.phone),
        frozenset(changes.get("opt_out", before.opt_out)),
        before.version + 1,
    )
    if after.channel == "sms" and not after.phone:
        raise Invalid("the channel sms needs a phone number", errors=[{"field": "phone", "rule": "is needed for the channel sms"}])
    await store.save_preference(work, user_id, after)
    if "promotions" in after.opt_out - before.opt_out:
        await store.campaigns.suppress(work, user_id)
    return after


async def latest(context: NotificationsContext, request: LatestRequest) -> LatestNotifications:
    """What was last sent to a user, or is about to be."""
    rows = await store.page(context.database, limit=request.limit, before=None, user_id=request.user_id)
    return LatestNotifications(
        items=[NotificationSummary.model_validate({**row, "created_at": rfc3339(row["created_at"])}) for row in rows]
    )
