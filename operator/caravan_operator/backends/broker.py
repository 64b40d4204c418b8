"""What the loop asks of a broker, and how a broker says no."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from caravan_operator.reconcile.findings import Action
from caravan_operator.status.reasons import Reason
from caravan_operator.status.words import one_line

Fence = Callable[[], None]
"""Called before every batch of writes; raises when this process may no longer write."""


class BrokerAway(Exception):
    """No answer, or none that concerns one object alone: the whole connection waits."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker's refusal of one object, in our own words."""

    message: str


class Broker(Protocol):
    async def check(self) -> dict[str, Any]:
        """Facts for the connection's status. Raises BrokerAway."""

    async def observe(self, kind: str, wanted: Sequence[Any], *, usage: bool = False) -> list[Any]:
        """The state of each object, None where there is none, Refused where it can't be asked for; `usage`: also whether it holds anything.
        Read in bulk. Raises BrokerAway."""

    async def apply(self, work: Sequence[tuple[Action, ...]], *, dry: bool = False) -> list[Refused | None]:
        """Run the actions of each object, all objects together. `dry`: only ask whether they would be accepted. Raises BrokerAway."""

    async def close(self) -> None: ...


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Raises BrokerAway when what is inside takes longer: a server that answers each of many requests just in time holds nothing else up."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise BrokerAway(Reason.UNREACHABLE, f"the broker is too slow: not done within {seconds:.0f} s") from None


def plain(text: str, *secrets: str) -> str:
    """A broker's message for the log: one line, bounded, without control characters and without the given secrets."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return one_line(text, 400)


def naming(ours: Iterable[str], words: str) -> str:
    """Which of our own words a refusal names: that is said, the refusal itself is not."""
    found = sorted({word for word in ours if len(word) > 3 and word in words})
    return f" (it names {', '.join(found)})" if found else ""
