"""The message door: which event makes which message, and the two queues for messages that other services ask for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from caravan.database import UnitOfWork
from caravan.inbox import Consumers
from caravan.messages import Delivery, Event, Source
from services.identity.messages import USER_REGISTERED, USER_UPDATED, UserRegistered, UserUpdated
from services.notifications.messages import (
    CANCELLATION_REFUSED,
    CRITICAL_NOTIFICATIONS,
    STANDARD_NOTIFICATIONS,
    SendNotification,
)
from services.notifications.model import KINDS, NotificationRequest, Priority, commandable_type
from services.notifications.use_cases import NotificationsContext as Context
from services.notifications.use_cases import campaigns
from services.notifications.use_cases.accept import accept_requests
from services.orders.messages import ORDERS, OrderCancellationRefused, OrderCancelled, OrderCreated
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.shipping.messages import ORDER_SHIPPED, OrderShipped

consume = Consumers("notifications", linger=0.1)

ORDER_ANNOUNCEMENTS = ORDERS.bind("notifications", "order.created", "order.cancelled", "order.cancellation-refused")
KIND_BY_OUTCOME = {"completed": "order_confirmed", "rejected": "order_rejected", "payment_failed": "payment_failed"}
"""A cancellation tells the customer itself, when it is complete."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """An event and the kind of message that it makes; None for no message. The values of the kind are the event's
    fields of these names.
    """

    source: Source
    event: type[Event]
    choose_kind: Callable[[Any], str | None]


TRIGGERS = (
    Trigger(ORDER_ANNOUNCEMENTS, OrderCreated, lambda _: "order_received"),
    Trigger(ORDER_ANNOUNCEMENTS, OrderCancelled, lambda _: "order_cancelled"),
    Trigger(ORDER_ANNOUNCEMENTS, OrderCancellationRefused, lambda _: CANCELLATION_REFUSED),
    Trigger(ORDER_PROCESSED, OrderProcessed, lambda event: KIND_BY_OUTCOME.get(event.outcome)),
    Trigger(ORDER_SHIPPED, OrderShipped, lambda _: "order_shipped"),
)
TRIGGER_BY_EVENT = {trigger.event: trigger for trigger in TRIGGERS}


def notification_for(event: Event) -> NotificationRequest | None:
    """The message that an event makes."""
    trigger = TRIGGER_BY_EVENT[type(event)]
    name = trigger.choose_kind(event)
    if name is None:
        return None
    kind = KINDS[name]
    return NotificationRequest(
        dedup_key=str(event.order_id),  # type: ignore[attr-defined]
        kind=kind,
        user_id=getattr(event, "user_id", None),
        email=event.email,  # type: ignore[attr-defined]  # every event here carries the address of its moment
        values={field: getattr(event, field, None) for field in kind.required_values + kind.optional_values},
        order_id=event.order_id,  # type: ignore[attr-defined]
    )


async def notify_on_event(context: Context, uow: UnitOfWork, deliveries: list[Delivery[Event]]) -> None:
    await accept_requests(
        context, uow, [request for delivery in deliveries if (request := notification_for(delivery.message))]
    )


@consume(USER_REGISTERED)
async def handle_user_registered(context: Context, uow: UnitOfWork, deliveries: list[Delivery[UserRegistered]]) -> None:
    await campaigns.update_recipients(uow, deliveries)


@consume(USER_UPDATED)
async def handle_user_updated(context: Context, uow: UnitOfWork, deliveries: list[Delivery[UserUpdated]]) -> None:
    await campaigns.update_recipients(uow, deliveries)


for source in {id(trigger.source): trigger.source for trigger in TRIGGERS}.values():
    consume(source)(notify_on_event)


def from_command(command: SendNotification, priority: Priority) -> NotificationRequest:
    return NotificationRequest(
        command.about,
        commandable_type(command.kind),
        command.user_id,
        command.email,
        dict(command.values),
        priority=priority,
    )


@consume(CRITICAL_NOTIFICATIONS)
async def send_critical(context: Context, uow: UnitOfWork, deliveries: list[Delivery[SendNotification]]) -> None:
    await accept_requests(context, uow, [from_command(delivery.message, "critical") for delivery in deliveries])


@consume(STANDARD_NOTIFICATIONS)
async def send_standard(context: Context, uow: UnitOfWork, deliveries: list[Delivery[SendNotification]]) -> None:
    await accept_requests(context, uow, [from_command(delivery.message, "standard") for delivery in deliveries])
