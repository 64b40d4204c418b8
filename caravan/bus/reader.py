"""What the readers of both brokers share: a batch is repeated until its outcome counts, and failed messages wait in a
`RetryBuffer`.

A message that waits is not acknowledged, so when a reader dies the broker delivers it again in its position: the order
per key survives a restart.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from caravan import fault_flags
from caravan.backoff import compute_backoff
from caravan.bus import BatchHandler, HandlingResult, IncomingMessage, Result, Subscription, cut_key
from caravan.bus.retry_buffer import RetryBuffer
from caravan.concurrency import raise_if_cancelled
from caravan.pacing import compute_rest
from caravan.telemetry import log
from caravan.telemetry.metrics import DEAD_LETTERS


def record_dead_letter(subscription: Subscription, key: str, attempt: int, reason: str) -> None:
    DEAD_LETTERS.labels(subscription.channel, subscription.service).inc()
    log.error("dead letter", subscription=subscription.name, key=cut_key(key), attempt=attempt, reason=reason)


_T = TypeVar("_T")


class Reader(ABC):
    """Runs batches; a transport implements how a message is acknowledged, its attempt recorded, and it is
    dead-lettered.
    """

    def __init__(self, subscription: Subscription, handler: BatchHandler) -> None:
        self.subscription = subscription
        self.is_stopping = False
        self.retry_buffer = RetryBuffer()
        self._handler = handler
        self._waking = False
        self._wait: asyncio.Timeout | None = None

    def stop(self) -> None:
        """Take no further batch."""
        self.is_stopping = True
        self.wake()

    def wake(self) -> None:
        """Wait for nothing any more: what waits returns at once, and whatever would wait later, too."""
        self._waking = True
        if self._wait is not None and not self._wait.expired():
            self._wait.reschedule(asyncio.get_running_loop().time())

    async def wait_for(self, coming: Awaitable[_T], seconds: float | None = None) -> _T | None:
        """What comes within so many seconds and before `wake`, else None. It is cancelled then, so it must lose nothing
        by that.
        """
        try:
            async with asyncio.timeout(0 if self._waking else seconds) as self._wait:
                return await coming
        except TimeoutError:
            return None
        finally:
            self._wait = None

    @abstractmethod
    async def acknowledge_messages(self, done: Sequence[IncomingMessage]) -> None:
        """They are done: acknowledge them."""

    @abstractmethod
    async def dead_letter(self, incoming: IncomingMessage, reason: str) -> None:
        """Make it a dead letter, durably, then acknowledge it."""

    @abstractmethod
    async def record_attempt(self, incoming: IncomingMessage, delay: float) -> None:
        """It failed and comes again, as the attempt that it says, after `delay` seconds."""

    @abstractmethod
    def check_ownership(self) -> None:
        """Raise when the running batch is no longer ours."""

    async def handle_batch(self, batch: list[IncomingMessage]) -> None:
        """Run a batch and do what its outcomes say. When `stop` is called while the infrastructure is unavailable, the
        batch is left to the next reader.
        """
        started_at = asyncio.get_running_loop().time()
        if fault_flags.active:
            await fault_flags.hold(fault_flags.CONSUMER_STUCK, self.subscription.name, lambda: self.is_stopping)
        results = await self._call_handler(batch)
        if results is None:
            return
        self.check_ownership()
        await self._apply_results(batch, results)
        if len(batch) < self.subscription.batch and not self.is_stopping:
            took = asyncio.get_running_loop().time() - started_at
            await asyncio.sleep(compute_rest(self.subscription.linger, took))

    async def _call_handler(self, batch: list[IncomingMessage]) -> list[HandlingResult] | None:
        failures = 0
        while True:
            try:
                return await self._handler(batch)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # nothing of the batch counts: the same again
                raise_if_cancelled(error)
                failures += 1
                log.warning("consumer is retrying", subscription=self.subscription.name, error=repr(error))
                if self.is_stopping:
                    return None
                await asyncio.sleep(compute_backoff(failures))
                self.check_ownership()

    async def _apply_results(self, batch: list[IncomingMessage], results: list[HandlingResult]) -> None:
        done = [incoming for incoming, outcome in zip(batch, results, strict=True) if outcome.result is Result.DONE]
        if done:
            await self.acknowledge_messages(done)
        if len(done) == len(batch):
            return
        retry = self.subscription.retry
        requeued_by_key: dict[str, list[IncomingMessage]] = {}
        due_at_by_key: dict[str, float] = {}
        for incoming, outcome in zip(batch, results, strict=True):
            if outcome.result is Result.DONE:
                continue
            if outcome.result is Result.BLOCKED:
                requeued_by_key.setdefault(incoming.key, []).append(incoming)
            elif outcome.result is Result.DEAD or incoming.attempt >= retry.max_attempts:
                record_dead_letter(self.subscription, incoming.key, incoming.attempt, outcome.reason)
                await self.dead_letter(incoming, outcome.reason)
            else:
                delay = retry.delays[incoming.attempt - 1]
                next_attempt = incoming._replace(attempt=incoming.attempt + 1)
                await self.record_attempt(next_attempt, delay)
                requeued_by_key.setdefault(incoming.key, []).append(next_attempt)
                due_at_by_key[incoming.key] = asyncio.get_running_loop().time() + delay
        for key, messages in requeued_by_key.items():
            # Where the one before them was given up just now, nothing is in their way any more.
            self.retry_buffer.requeue(key, messages, due_at_by_key.get(key, 0.0))
