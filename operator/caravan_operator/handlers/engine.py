"""One worker per connection takes what is due; a sweep asks for everything again from time to time. A worker that dies takes the process with it."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from caravan_operator.handlers.cache import Cache
from caravan_operator.handlers.lease import LeaseLost
from caravan_operator.handlers.queue import Lane, WorkQueue
from caravan_operator.reconcile.durations import seconds
from caravan_operator.resources.resource import Key
from caravan_operator.status.conditions import READY
from caravan_operator.status.metrics import BATCH, RECONCILE_SECONDS, RESOURCES, UNFINISHED
from caravan_operator.status.traces import span

log = logging.getLogger(__name__)
SWEEP_LIMIT = 500
"""Resources of a sweep in one batch: the most that one read asks for."""

MEASURED_EVERY = 5.0

Run = Callable[[Key, Sequence[Key]], Awaitable[None]]


class Engine:
    def __init__(self, cache: Cache, queue: WorkQueue, run: Run, *, period: float) -> None:
        self._cache = cache
        self._queue = queue
        self._run = run
        self._period = period
        self._workers: dict[Key, asyncio.Task[None]] = {}
        self._running: dict[Key, float] = {}
        self.beat = time.monotonic()

    async def serve(self) -> None:
        """Until it is cancelled, or a worker fails for good: its exception is raised."""
        sweeping = asyncio.create_task(self._sweeps())
        measured = self.beat = time.monotonic()
        try:
            while True:
                await self._queue.wait(1.0)
                self.beat = time.monotonic()
                self._spawn()
                for task in [sweeping, *self._workers.values()]:
                    if task.done():
                        task.result()
                if self.beat - measured > MEASURED_EVERY:
                    measured = self.beat
                    self._measure()
        finally:
            tasks = [sweeping, *self._workers.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def sweep(self) -> None:
        """Ask for a pass over everything, in the last lane."""
        for resource in self._cache:
            self._queue.add(resource.key, self._cache.connection_of(resource), Lane.SWEEP)

    def oldest_batch(self) -> float:
        """Seconds that the longest running batch has taken so far."""
        return max((time.monotonic() - started for started in self._running.values()), default=0.0)

    def _spawn(self) -> None:
        for group in self._queue.groups():
            if group not in self._workers or self._workers[group].done():
                self._workers[group] = asyncio.create_task(self._work(group))

    async def _work(self, group: Key) -> None:
        """Batches of one connection, as long as something is due."""
        while self._queue.waiting(group):
            limit, linger = self._batch(group)
            if linger and self._queue.waiting(group) < limit:
                await asyncio.sleep(linger)
            keys = self._queue.ready(group, limit, SWEEP_LIMIT)
            if not keys:
                return
            self._running[group] = started = time.monotonic()
            try:
                with span("batch", connection=group.path, resources=len(keys)):
                    await self._run(group, keys)
            except LeaseLost:
                raise
            except Exception:
                log.exception("a batch failed", extra={"connection": group.path, "resources": len(keys)})
                for key in keys:
                    self._queue.retry(key, group)
            finally:
                self._queue.done(keys)
                del self._running[group]
                RECONCILE_SECONDS.labels(group.kind).observe(time.monotonic() - started)
                BATCH.labels(group.kind).observe(len(keys))

    def _batch(self, group: Key) -> tuple[int, float]:
        connection = self._cache.get(group)
        wish = (connection.spec.get("batch") or {}) if connection else {}
        return wish.get("size", 100), seconds(wish.get("linger", "100ms"))

    async def _sweeps(self) -> None:
        while True:
            await asyncio.sleep(self._period * random.uniform(0.9, 1.1))
            self.sweep()

    def _measure(self) -> None:
        self._queue.oldest()
        UNFINISHED.set(self.oldest_batch())
        counts: dict[tuple[str, str], int] = {}
        for resource in self._cache:
            found = resource.condition(READY)
            label = (resource.key.kind, found["status"] if found else "Unknown")
            counts[label] = counts.get(label, 0) + 1
        RESOURCES.clear()
        for (kind, ready), count in counts.items():
            RESOURCES.labels(kind, ready).set(count)
