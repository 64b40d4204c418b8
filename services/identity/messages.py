"""What identity publishes."""

from uuid import UUID

from caravan.messages import Event, Topic


class UserRegistered(Event):
    user_id: UUID
    email: str
    name: str
    role: str
    invited: bool = False
    """Made by an admin or an import, not by the user: no welcome mail. The user claims the account by a password reset."""


class UserUpdated(Event):
    user_id: UUID
    email: str
    name: str
    role: str
    disabled: bool
    account_version: int


USER_REGISTERED = Topic("user-registered", owner="identity", events=(UserRegistered,), key="user id", purpose="A new user exists.")
USER_UPDATED = Topic(
    "user-updated", owner="identity", events=(UserUpdated,), key="user id", purpose="Profile, role or standing of a user changed."
)
CHANNELS = (USER_REGISTERED, USER_UPDATED)
