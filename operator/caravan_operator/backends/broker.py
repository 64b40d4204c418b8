"""What the loop asks of a broker, and how a broker says no."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from caravan_operator.reconcile.findings import Action
from caravan_operator.status.reasons import Reason

Fence = Callable[[], None]
"""Called before every batch of writes; raises when this process may no longer write."""


class BrokerAway(Exception):
    """No answer, or none that concerns one object alone: the whole connection waits."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker's own answer for one object, without secrets."""

    message: str


class Broker(Protocol):
    async def check(self) -> dict[str, Any]:
        """Facts for the connection's status. Raises BrokerAway."""

    async def observe(self, kind: str, wanted: Sequence[Any], *, usage: bool = False) -> list[Any]:
        """The state of each object, None where there is none; `usage`: also whether it holds anything. Read in bulk. Raises BrokerAway."""

    async def apply(self, work: Sequence[tuple[Action, ...]], *, dry: bool = False) -> list[Refused | None]:
        """Run the actions of each object, all objects together. `dry`: only ask whether they would be accepted. Raises BrokerAway."""

    async def close(self) -> None: ...


def plain(text: str, *secrets: str) -> str:
    """A broker's message for a condition: one line, bounded, without control characters and without the given secrets."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:400]
