"""Where dead letters are kept: a source per transport, listed and acted upon alike.

The outbox and the jobs have theirs beside them (`OutboxDeadLetters`, `JobDeadLetters`); a service may declare more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from caravan.bus import Bus, DeadLetter, Subscription
from caravan.dead_letters.schemas import Origin


class DeadLetterSource(Protocol):
    """A place where failures lie, such as a service's subscriptions, its outbox or its jobs. Letters come oldest
    first.
    """

    @property
    def origin(self) -> Origin: ...

    async def list_dead_letters(self, limit: int, preview: int) -> list[DeadLetter]: ...

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int: ...

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int: ...


@dataclass(frozen=True, slots=True)
class SubscriptionDeadLetters:
    """What the subscriptions of a service gave up."""

    bus: Bus
    subscriptions: Sequence[Subscription]
    origin: Origin = "subscription"

    async def list_dead_letters(self, limit: int, preview: int) -> list[DeadLetter]:
        return await self.bus.list_dead_letters(self.subscriptions, limit=limit, preview=preview)

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        return await self.bus.redrive(dead_letters)

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int:
        return await self.bus.discard(dead_letters)
