"""Which event makes which notification, and the two queues for those that other services ask for."""

from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.identity.messages import USER_REGISTERED, USER_UPDATED, UserRegistered, UserUpdated
from services.notifications.messages import (
    CANCELLATION_REFUSED,
    CRITICAL_NOTIFICATIONS,
    STANDARD_NOTIFICATIONS,
    SendNotification,
)
from services.notifications.model import KINDS, NotificationRequest, Priority, commandable_type
from services.notifications.use_cases import NotificationsContext as Context
from services.notifications.use_cases.accept import accept_requests
from services.notifications.use_cases.campaigns import recipients
from services.orders.messages import ORDERS, OrderCancellationRefused, OrderCancelled, OrderCreated
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.shipping.messages import ORDER_SHIPPED, OrderShipped

consume = Consumers("notifications", linger=0.1)

ORDER_ANNOUNCEMENTS = ORDERS.bind("notifications", "order.created", "order.cancelled", "order.cancellation-refused")
KIND_BY_OUTCOME = {"completed": "order_confirmed", "rejected": "order_rejected", "payment_failed": "payment_failed"}
"""A cancellation tells the customer itself, when it is complete."""


NotifiableEvent = OrderCreated | OrderCancelled | OrderCancellationRefused | OrderProcessed | OrderShipped


@consume(USER_REGISTERED, USER_UPDATED)
async def update_recipients(
    context: Context, uow: UnitOfWork, deliveries: list[Delivery[UserRegistered | UserUpdated]]
) -> None:
    await recipients.update_recipients(uow, deliveries)


@consume(ORDER_ANNOUNCEMENTS, ORDER_PROCESSED, ORDER_SHIPPED)
async def notify_on_event(context: Context, uow: UnitOfWork, deliveries: list[Delivery[NotifiableEvent]]) -> None:
    await accept_requests(
        context, uow, [request for delivery in deliveries if (request := notification_for(delivery.message))]
    )


def notification_for(event: NotifiableEvent) -> NotificationRequest | None:
    """The message that an event makes, if any. The values of its kind are the event's fields of these names."""
    name = _choose_kind(event)
    if name is None:
        return None
    kind = KINDS[name]
    return NotificationRequest(
        dedup_key=str(event.order_id),
        kind=kind,
        user_id=getattr(event, "user_id", None),
        email=event.email,
        values={field: getattr(event, field, None) for field in kind.required_values + kind.optional_values},
        order_id=event.order_id,
    )


def _choose_kind(event: NotifiableEvent) -> str | None:
    match event:
        case OrderCreated():
            return "order_received"
        case OrderProcessed(outcome=outcome):
            return KIND_BY_OUTCOME.get(outcome)
        case OrderShipped():
            return "order_shipped"
        case OrderCancelled():
            return "order_cancelled"
        case OrderCancellationRefused():
            return CANCELLATION_REFUSED


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
