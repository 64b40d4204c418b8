"""Send a notification again that failed, came back, or was lost by its reader."""

from functools import partial
from uuid import UUID

from caravan.audit import record_audit
from caravan.database import UnitOfWork
from caravan.errors import Conflict, NotFound
from services.notifications.model import (
    DEFAULT_PREFERENCE,
    KINDS,
    SECRET_KINDS,
    ChannelChoice,
    NotificationRequest,
    choose_channel,
)
from services.notifications.store import addresses, preferences, resends
from services.notifications.store.resends import NotificationRecord, ResendableNotification
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.accept import SEND_JOBS


async def resend_notification(context: NotificationsContext, notification_id: UUID) -> NotificationRecord:
    """Make it due again, on the way and to the address that its user has now. Raises NotFound, or Conflict with what to
    do instead.
    """
    async with context.database.unit_of_work() as uow:
        found = await resends.lock_resendable(uow, notification_id)
        if found is None:
            raise NotFound(f"no notification {notification_id}; GET /v1/notifications?state=failed lists failed ones")
        if refusal := _find_refusal(found):
            raise Conflict(f"notification {notification_id} {refusal}")
        choice = await _choose_way(uow, found)
        if choice.state == "suppressed":
            raise Conflict(
                f"notification {notification_id}: its user opted out of such messages, or takes no mail there (GET "
                "/v1/notifications/undeliverable-addresses)"
            )
        record = await resends.requeue_notification(uow, notification_id, choice, context.clock())
        record_audit(uow, "notification.resent", f"notification:{notification_id}", kind=found.kind)
        uow.run_after_commit(partial(context.jobs.enqueue_soon, SEND_JOBS[found.priority]))
    return record


def _find_refusal(found: ResendableNotification) -> str | None:
    if found.state == "pending":
        return "still waits to be sent; GET /v1/notifications says why"
    if found.state == "suppressed":
        return "was not sent because its user didn't want it, or the address was not known to be theirs"
    if not found.has_values:
        advice = "its user can ask for a new one" if found.kind in SECRET_KINDS else "write to the user instead"
        return f"can't be written again, because what it said is not kept; {advice}"
    if found.is_campaign_stopped:
        return "is of a campaign that is stopped; resume the campaign first"
    return None


async def _choose_way(uow: UnitOfWork, found: ResendableNotification) -> ChannelChoice:
    email = found.email or (found.recipient if found.channel != "sms" else None)
    if found.user_id is None or email is None:
        return ChannelChoice(found.channel, found.recipient, "pending")
    preference = (await preferences.find_preferences(uow, [found.user_id])).get(found.user_id, DEFAULT_PREFERENCE)
    request = NotificationRequest(
        found.about,
        KINDS[found.kind],
        found.user_id,
        email,
        is_undeliverable=bool(await addresses.find_undeliverable(uow, [email])),
    )
    return choose_channel(request, preference)
