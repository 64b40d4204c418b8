"""What identity publishes."""

from typing import Literal
from uuid import UUID

from caravan.messages import Event, Topic

UserRole = Literal["customer", "staff", "admin"]


class UserRegistered(Event):
    user_id: UUID
    email: str
    name: str
    role: str
    invited: bool = False
    """Made by an admin or an import, not by the user: the address is vouched for. The user claims the account by a
    password reset.
    """


class UserUpdated(Event):
    version = 2

    user_id: UUID
    email: str
    name: str
    role: str
    disabled: bool
    account_version: int
    verified: bool = True
    """Whether the e-mail address is known to be the user's; before version 2 nobody was asked."""


USER_REGISTERED = Topic(
    "user-registered", owner="identity", events=(UserRegistered,), key="user id", purpose="A new user exists."
)
USER_UPDATED = Topic(
    "user-updated",
    owner="identity",
    events=(UserUpdated,),
    key="user id",
    purpose="Profile, role or standing of a user changed.",
)
CHANNELS = (USER_REGISTERED, USER_UPDATED)
