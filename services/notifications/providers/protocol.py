"""What notifications asks of whoever carries its messages: a provider per channel answers for each of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from services.notifications.rendering import RenderedMessage


@dataclass(frozen=True, slots=True)
class SendResult:
    """`again`: this message failed and may work later. `refused`: it never will. `later`: it was not tried. `down`: the
    provider is unavailable as a whole.
    """

    status: Literal["sent", "again", "refused", "later", "down"]
    reason: str | None = None
    is_bad_address: bool = False
    """It was refused because the address takes no mail, now or ever."""


SENT, NOT_TRIED = SendResult("sent"), SendResult("later")


class MessageProvider(Protocol):
    """Carries messages of one channel. A message may come again after a crash, with the same key; a provider that can
    drops the second.
    """

    async def send(self, messages: Sequence[RenderedMessage]) -> list[SendResult]:
        """A result for each message, in their order."""
