"""The message door: which event makes which message, and the two queues for messages that other services ask for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from caravan.database import UnitOfWork
from caravan.inbox import Consumers
from caravan.messages import Delivery, Event, Source
from services.identity.messages import USER_REGISTERED, USER_UPDATED, UserRegistered, UserUpdated
from services.notifications.messages import CANCELLATION_REFUSED, CRITICAL, STANDARD, SendNotification
from services.notifications.model import KINDS, Priority, Wanted, commanded
from services.notifications.use_cases import NotificationsContext as Context
from services.notifications.use_cases import campaigns
from services.notifications.use_cases.accepting import accept
from services.orders.messages import ORDERS, OrderCancellationRefused, OrderCancelled, OrderCreated
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.shipping.messages import ORDER_SHIPPED, OrderShipped

consume = Consumers("notifications", linger=0.1)

ANNOUNCED = ORDERS.bind("notifications", "order.created", "order.cancelled", "order.cancellation-refused")
BY_OUTCOME = {"completed": "order_confirmed", "rejected": "order_rejected", "payment_failed": "payment_failed"}
"""A cancellation tells the customer itself, when it is complete."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """An event and the kind of message that it makes; None for no message. The values of the kind are the event's fields of these names."""

    source: Source
    event: type[Event]
    kind: Callable[[Any], str | None]


TRIGGERS = (
    Trigger(ANNOUNCED, OrderCreated, lambda _: "order_received"),
    Trigger(ANNOUNCED, OrderCancelled, lambda _: "order_cancelled"),
    Trigger(ANNOUNCED, OrderCancellationRefused, lambda _: CANCELLATION_REFUSED),
    Trigger(ORDER_PROCESSED, OrderProcessed, lambda event: BY_OUTCOME.get(event.outcome)),
    Trigger(ORDER_SHIPPED, OrderShipped, lambda _: "order_shipped"),
)
BY_EVENT = {trigger.event: trigger for trigger in TRIGGERS}


def triggered(event: Event) -> Wanted | None:
    """The message that an event makes."""
    trigger = BY_EVENT[type(event)]
    name = trigger.kind(event)
    if name is None:
        return None
    kind = KINDS[name]
    return Wanted(
        about=str(event.order_id),  # type: ignore[attr-defined]
        kind=kind,
        user_id=getattr(event, "user_id", None),
        email=event.email,  # type: ignore[attr-defined]  # every event here carries the address of its moment
        values={field: getattr(event, field, None) for field in kind.needs + kind.may},
        order_id=event.order_id,  # type: ignore[attr-defined]
    )


async def something_happened(context: Context, work: UnitOfWork, deliveries: list[Delivery[Event]]) -> None:
    await accept(context, work, [wanted for delivery in deliveries if (wanted := triggered(delivery.message))])


@consume(USER_REGISTERED)
async def user_registered(context: Context, work: UnitOfWork, deliveries: list[Delivery[UserRegistered]]) -> None:
    await campaigns.know_users(work, deliveries)


@consume(USER_UPDATED)
async def user_updated(context: Context, work: UnitOfWork, deliveries: list[Delivery[UserUpdated]]) -> None:
    await campaigns.know_users(work, deliveries)


for source in {id(trigger.source): trigger.source for trigger in TRIGGERS}.values():
    consume(source)(something_happened)


def asked_for(command: SendNotification, priority: Priority) -> Wanted:
    return Wanted(command.about, commanded(command.kind), command.user_id, command.email, dict(command.values), priority=priority)


@consume(CRITICAL)
async def send_critical(context: Context, work: UnitOfWork, deliveries: list[Delivery[SendNotification]]) -> None:
    await accept(context, work, [asked_for(delivery.message, "critical") for delivery in deliveries])


@consume(STANDARD)
async def send_standard(context: Context, work: UnitOfWork, deliveries: list[Delivery[SendNotification]]) -> None:
    await accept(context, work, [asked_for(delivery.message, "standard") for delivery in deliveries])
