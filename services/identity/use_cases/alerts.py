"""Mails that identity asks for: security mails on the queue that nothing else delays, and the welcome."""

from typing import Any

from caravan.clock import rfc3339
from caravan.database import UnitOfWork
from services.identity.model import Account
from services.notifications.messages import CRITICAL, STANDARD, SendNotification


def alert(work: UnitOfWork, account: Account, kind: str, about: str, **values: Any) -> None:
    """Tell the user, when this unit of work commits."""
    named = {"name": account.name} if account.verified else {}  # nobody else's words to an address that may not be the user's
    stamped = {**named, "at": rfc3339(work.database.clock()), **values}
    work.emit(CRITICAL, SendNotification(about=about, kind=kind, user_id=account.id, email=account.email, values=stamped), key=about)


def welcome(work: UnitOfWork, account: Account) -> None:
    about = str(account.id)
    values = {"name": account.name}
    work.emit(STANDARD, SendNotification(about=about, kind="welcome", user_id=account.id, email=account.email, values=values), key=about)
