"""What the readers of both brokers share: a batch runs until it counts, and what failed waits in memory with its key.

A message that waits is not acknowledged, so a reader that dies gives it back to the broker in its place: order per key survives a restart. Its later messages line
up behind it; other keys go on.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from caravan.bus import Incoming, Outcome, Process, Result, Subscription
from caravan.telemetry import DEAD_LETTERS, log

REST_SECONDS = 10.0
"""Longest wait for something to handle. A message ends it, and so does `stop`: a reader at rest need not look whether there is anything."""
PARKED_MAX = 2_000
"""Messages that a reader holds back at most (per partition on Kafka); beyond it no more are taken until some of them are done."""
BACKOFF_SECONDS = (0.05, 0.2, 1.0, 3.0)


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1]


def note_death(subscription: Subscription, key: str, attempt: int, reason: str) -> None:
    DEAD_LETTERS.labels(subscription.channel, subscription.service).inc()
    log.error("dead letter", subscription=subscription.name, key=key, attempt=attempt, reason=reason)


@dataclass(slots=True)
class _Waiting:
    due: float
    messages: deque[Incoming] = field(default_factory=deque)


class Parking:
    """Keys whose first message failed: their messages in order, and when the first is due (loop time)."""

    def __init__(self) -> None:
        self._keys: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return sum(len(waiting.messages) for waiting in self._keys.values())

    def first(self, key: str) -> Incoming | None:
        waiting = self._keys.get(key)
        return waiting.messages[0] if waiting else None

    def line_up(self, incoming: Incoming) -> bool:
        """Put a new message behind those of its key; whether there were any."""
        waiting = self._keys.get(incoming.key)
        if waiting:
            waiting.messages.append(incoming)
        return waiting is not None

    def put_back(self, key: str, messages: list[Incoming], due: float) -> None:
        """Messages that ran or were held, in their order, before those of the key that had not run."""
        waiting = self._keys.setdefault(key, _Waiting(due))
        waiting.due = due
        waiting.messages.extendleft(reversed(messages))

    def raise_attempt(self, key: str, attempt: int) -> None:
        waiting = self._keys[key]
        waiting.messages[0] = waiting.messages[0]._replace(attempt=max(attempt, waiting.messages[0].attempt))

    def due(self, now: float, limit: int) -> list[Incoming]:
        """Take what is due, at most `limit`; what is left of a key stays before its newer messages."""
        taken: list[Incoming] = []
        for key, waiting in list(self._keys.items()):
            while waiting.due <= now and waiting.messages and len(taken) < limit:
                taken.append(waiting.messages.popleft())
            if not waiting.messages:
                del self._keys[key]
        return taken

    def patience(self, now: float) -> float:
        """Seconds until something is due, at most REST_SECONDS."""
        if not self._keys:
            return REST_SECONDS
        return min(REST_SECONDS, max(0.0, min(waiting.due for waiting in self._keys.values()) - now))

    def clear(self) -> None:
        self._keys.clear()


_T = TypeVar("_T")


class Reader(ABC):
    """Runs batches; a transport says how a message is finished, noted as tried, and buried."""

    def __init__(self, subscription: Subscription, process: Process) -> None:
        self.subscription = subscription
        self.stopping = False
        self.parking = Parking()
        self._process = process
        self._waking = False
        self._wait: asyncio.Timeout | None = None

    def stop(self) -> None:
        """Take no further batch."""
        self.stopping = True
        self.wake()

    def wake(self) -> None:
        """Wait for nothing any more: what waits returns at once, and whatever would wait later, too."""
        self._waking = True
        if self._wait is not None and not self._wait.expired():
            self._wait.reschedule(asyncio.get_running_loop().time())

    async def wait_for(self, coming: Awaitable[_T], seconds: float | None = None) -> _T | None:
        """What comes within so many seconds and before `wake`, else None. It is cancelled then, so it must lose nothing by that."""
        try:
            async with asyncio.timeout(0 if self._waking else seconds) as self._wait:
                return await coming
        except TimeoutError:
            return None
        finally:
            self._wait = None

    @abstractmethod
    async def finish(self, incoming: Incoming) -> None:
        """It is done: acknowledge it."""

    @abstractmethod
    async def bury(self, incoming: Incoming, reason: str) -> None:
        """Make it a dead letter, durably, then acknowledge it."""

    @abstractmethod
    async def note_attempt(self, incoming: Incoming, delay: float) -> None:
        """It failed and comes again, as the attempt that it says, after `delay` seconds."""

    @abstractmethod
    def check(self) -> None:
        """Raise when what is in hand is no longer ours."""

    async def handle(self, batch: list[Incoming]) -> None:
        """Run a batch and do what its outcomes say. When told to stop while the infrastructure is away, the batch is left to the next reader."""
        started = asyncio.get_running_loop().time()
        outcomes = await self._outcomes(batch)
        if outcomes is None:
            return
        self.check()
        await self._settle(batch, outcomes)
        rest = started + self.subscription.linger - asyncio.get_running_loop().time()
        if len(batch) < self.subscription.batch and rest > 0 and not self.stopping:
            await asyncio.sleep(rest)

    async def _outcomes(self, batch: list[Incoming]) -> list[Outcome] | None:
        failures = 0
        while True:
            try:
                return await self._process(batch)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # nothing of the batch counts: the same again
                failures += 1
                log.warning("consumer waits", subscription=self.subscription.name, error=repr(error))
                if self.stopping:
                    return None
                await asyncio.sleep(backoff(failures))
                self.check()

    async def _settle(self, batch: list[Incoming], outcomes: list[Outcome]) -> None:
        retry = self.subscription.retry
        back: dict[str, list[Incoming]] = {}
        due: dict[str, float] = {}
        for incoming, outcome in zip(batch, outcomes, strict=True):
            if outcome.result is Result.DONE:
                await self.finish(incoming)
            elif outcome.result is Result.HELD:
                back.setdefault(incoming.key, []).append(incoming)
            elif outcome.result is Result.DEAD or incoming.attempt >= retry.attempts:
                note_death(self.subscription, incoming.key, incoming.attempt, outcome.reason)
                await self.bury(incoming, outcome.reason)
            else:
                delay = retry.delays[incoming.attempt - 1]
                again = incoming._replace(attempt=incoming.attempt + 1)
                await self.note_attempt(again, delay)
                back.setdefault(incoming.key, []).append(again)
                due[incoming.key] = asyncio.get_running_loop().time() + delay
        for key, messages in back.items():
            # Where the one before them was given up just now, nothing is in their way any more.
            self.parking.put_back(key, messages, due.get(key, 0.0))
