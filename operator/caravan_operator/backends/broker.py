"""The interface that the controller has of a broker: the protocol that `kafka.py` and `rabbitmq.py` implement, and
the errors that they raise or return.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from caravan_operator.reconcile.diff import Action
from caravan_operator.status.reasons import Reason
from caravan_operator.status.text import to_one_line

Fence = Callable[[], None]
"""Called before every batch of writes; raises when this process may no longer write."""


class BrokerUnavailable(Exception):
    """No answer, or none that concerns one object alone: the whole connection waits."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """The broker's refusal of one object, in our own words."""

    message: str


class Broker(Protocol):
    async def check_health(self) -> dict[str, Any]:
        """Fields for the connection's status. Raises BrokerUnavailable."""

    async def read_states(self, kind: str, desired: Sequence[Any], *, with_usage: bool = False) -> list[Any]:
        """The state of each object, None where there is none, Refusal where it can't be asked for; `with_usage`: also
        whether it holds anything.
        Read in bulk. Raises BrokerUnavailable."""

    async def apply_actions(
        self, action_lists: Sequence[tuple[Action, ...]], *, dry_run: bool = False
    ) -> list[Refusal | None]:
        """Run the actions of each object, all objects together. `dry_run`: only ask whether they would be accepted.
        Raises BrokerUnavailable.
        """

    async def close(self) -> None: ...


@asynccontextmanager
async def limit_seconds(seconds: float) -> AsyncIterator[None]:
    """Raises BrokerUnavailable when what is inside takes longer: a server that answers each of many requests just in
    time holds nothing else up.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise BrokerUnavailable(
            Reason.UNREACHABLE, f"the broker is too slow: not done within {seconds:.0f} s"
        ) from None


def sanitize_message(text: str, *secrets: str) -> str:
    """A broker's message for the log: one line, bounded, without control characters and without the given secrets."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return to_one_line(text, 400)


def describe_named_words(own_words: Iterable[str], message: str) -> str:
    """The words of our own that a refusal names, for the status; the broker's text itself stays out of it."""
    named = sorted({word for word in own_words if len(word) > 3 and word in message})
    return f" (it names {', '.join(named)})" if named else ""
