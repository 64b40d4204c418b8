"""Stores each requested notification, once."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any, get_args
from uuid import UUID

import orjson
from pydantic import BaseModel

from caravan.clock import new_id
from caravan.database import UnitOfWork
from services.notifications.model import (
    DEFAULT_PREFERENCE,
    KINDS,
    UNSUBSCRIBABLE,
    NotificationRequest,
    Preference,
    Priority,
    choose_channel,
    validate_request,
)
from services.notifications.store import addresses, notifications, preferences
from services.notifications.use_cases import NotificationsContext

ABUSABLE_KINDS = [kind.name for kind in KINDS.values() if kind.is_abusable]
SEND_JOBS: dict[Priority, str] = {priority: f"notifications.{priority}-send" for priority in get_args(Priority)}


async def accept_requests(
    context: NotificationsContext, uow: UnitOfWork, requests: Sequence[NotificationRequest]
) -> None:
    """Write down what is to be sent. Raises MessageRejected for what can't be."""
    if not requests:
        return
    for message in requests:
        validate_request(message)
    await _add_missing_owners(uow, requests)
    preferences_by_user = await preferences.find_preferences(
        uow, [message.user_id for message in requests if message.user_id]
    )
    await _suppress_flooding(context, uow, requests)
    await _mark_undeliverable(uow, requests)
    await notifications.insert_notifications(
        uow,
        [
            to_row(
                message,
                preferences_by_user.get(message.user_id, DEFAULT_PREFERENCE) if message.user_id else DEFAULT_PREFERENCE,
            )
            for message in requests
        ],
        context.clock(),
    )
    for priority in {message.priority for message in requests}:
        uow.run_after_commit(partial(context.jobs.enqueue_soon, SEND_JOBS[priority]))


async def _suppress_flooding(
    context: NotificationsContext, uow: UnitOfWork, requests: Sequence[NotificationRequest]
) -> None:
    """Whoever registers somebody else's address can't have it flooded."""
    limited_requests = [
        message
        for message in requests
        if message.user_id and (message.kind.is_abusable or message.kind.category == "alerts")
    ]
    if not limited_requests:
        return
    since = context.clock() - timedelta(days=1)
    counts = await notifications.count_unverified_messages(
        uow, {message.user_id for message in limited_requests if message.user_id}, ABUSABLE_KINDS, since
    )
    for message in limited_requests:
        if message.user_id in counts:
            counts[message.user_id] += message.kind.is_abusable
            message.is_suppressed = (
                not message.kind.is_abusable or counts[message.user_id] > context.settings.unverified_mails_per_day
            )


async def _mark_undeliverable(uow: UnitOfWork, requests: Sequence[NotificationRequest]) -> None:
    """Whom mail doesn't reach gets no alerts."""
    alerts = [message for message in requests if message.kind.category in UNSUBSCRIBABLE]
    if alerts:
        undeliverable = await addresses.find_undeliverable(uow, [message.email for message in alerts])
        for message in alerts:
            message.is_undeliverable = message.email in undeliverable


async def _add_missing_owners(uow: UnitOfWork, requests: Sequence[NotificationRequest]) -> None:
    """Not every event names the user: their order's other notifications do."""
    ownerless_requests = [message for message in requests if message.user_id is None and message.order_id]
    if ownerless_requests:
        owners = await notifications.find_order_owners(
            uow, [message.order_id for message in ownerless_requests if message.order_id]
        )
        for message in ownerless_requests:
            message.user_id = owners.get(message.order_id) if message.order_id else None


def to_row(
    request: NotificationRequest, preference: Preference, run_id: UUID | None = None
) -> notifications.NotificationRow:
    """The notification of a message, on the way that its recipient prefers; `run_id`: the run of a campaign that it is
    of.
    """
    choice = choose_channel(request, preference)
    values = orjson.dumps(request.values, default=_to_json).decode() if choice.state == "pending" else None
    return notifications.NotificationRow(
        new_id(),
        request.dedup_key,
        request.kind.name,
        request.user_id,
        request.order_id,
        choice.channel,
        choice.recipient,
        request.priority,
        choice.state,
        values,
        run_id,
    )


def _to_json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError(f"a value of type {type(value).__name__} can't be kept")
