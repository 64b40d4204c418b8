"""The command that notifications takes, on two queues: a critical message never waits behind standard ones."""

from typing import Any
from uuid import UUID

from caravan.messages import Command, Queue


class SendNotification(Command):
    """One message to one person. `about` and `kind` together make it single: the same pair is sent once, however often the command comes."""

    about: str
    """What it is about, such as an order id or `password:<user id>:<event id>`."""
    kind: str
    """Name of the template."""
    user_id: UUID | None
    email: str
    values: dict[str, Any] = {}


CRITICAL = Queue("notifications.critical", owner="notifications", commands=(SendNotification,), key="about", purpose="Security messages: sent before all others.")
STANDARD = Queue("notifications.standard", owner="notifications", commands=(SendNotification,), key="about", purpose="Everything that may wait a little.")
CHANNELS = (CRITICAL, STANDARD)
