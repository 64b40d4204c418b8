"""Whom campaigns can reach: a copy of the customers, kept by identity's events."""

from collections.abc import Sequence

from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.identity.messages import UserRegistered, UserUpdated
from services.notifications.store.recipients import Recipient, upsert_recipients


async def update_recipients(uow: UnitOfWork, deliveries: Sequence[Delivery[UserRegistered | UserUpdated]]) -> None:
    """Keep whom campaigns can reach."""
    if deliveries:
        await upsert_recipients(uow, [_to_recipient(delivery) for delivery in deliveries])


def _to_recipient(delivery: Delivery[UserRegistered | UserUpdated]) -> Recipient:
    user = delivery.message
    if isinstance(user, UserUpdated):
        version, disabled, verified = user.account_version, user.disabled, user.verified
    else:
        version, disabled, verified = 0, False, user.invited
    active = user.role == "customer" and verified and not disabled
    return Recipient(user.user_id, user.email, user.name, active, version, delivery.time, verified)
