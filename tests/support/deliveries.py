"""Deliveries of a message that says nothing, for tests of what is recorded of each."""

from uuid import UUID

from caravan.clock import new_id, utc_now
from caravan.messages import Delivery, Event


class Blank(Event):
    pass


def build_delivery(
    message_id: UUID | None = None, key: str = "anything", attempt: int = 1, cause: UUID | None = None
) -> Delivery[Blank]:
    return Delivery(Blank(), message_id or new_id(), key, utc_now(), None, None, attempt, cause)
