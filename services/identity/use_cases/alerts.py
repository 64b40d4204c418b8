"""Security mails, on the queue that nothing else delays."""

from typing import Any

from caravan.clock import rfc3339
from caravan.database import UnitOfWork
from services.identity.model import Account
from services.notifications.messages import CRITICAL, SendNotification


def alert(work: UnitOfWork, account: Account, kind: str, about: str, **values: Any) -> None:
    """Tell the user, when this unit of work commits."""
    stamped = {"name": account.name, "at": rfc3339(work.database.clock()), **values}
    work.emit(CRITICAL, SendNotification(about=about, kind=kind, user_id=account.id, email=account.email, values=stamped), key=about)
