"""Mails that identity asks notifications for: security mails, on the queue for critical messages, and the welcome."""

from typing import Any

from caravan.clock import format_rfc3339
from caravan.database import UnitOfWork
from services.identity.model import Account
from services.notifications.messages import CRITICAL_NOTIFICATIONS, STANDARD_NOTIFICATIONS, SendNotification


def send_alert(uow: UnitOfWork, account: Account, kind: str, dedup_key: str, **values: Any) -> None:
    """Tell the user, when this unit of work commits."""
    name_values = (
        {"name": account.name} if account.verified else {}
    )  # nobody else's words to an address that may not be the user's
    message_values = {**name_values, "at": format_rfc3339(uow.database.clock()), **values}
    uow.emit(
        CRITICAL_NOTIFICATIONS,
        SendNotification(about=dedup_key, kind=kind, user_id=account.id, email=account.email, values=message_values),
        key=dedup_key,
    )


def send_welcome(uow: UnitOfWork, account: Account) -> None:
    dedup_key = str(account.id)
    values = {"name": account.name}
    uow.emit(
        STANDARD_NOTIFICATIONS,
        SendNotification(about=dedup_key, kind="welcome", user_id=account.id, email=account.email, values=values),
        key=dedup_key,
    )
