"""One worker per connection takes batches of due keys from the queue; a sweep puts every key into it periodically.
When a worker dies, the process ends.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.lease import LeaseLost
from caravan_operator.controller.queue import Priority, WorkQueue
from caravan_operator.reconcile.durations import parse_seconds
from caravan_operator.resources.resource import Key
from caravan_operator.status.conditions import READY
from caravan_operator.status.metrics import BATCH_SIZE, RECONCILE_SECONDS, RESOURCES, UNFINISHED_SECONDS
from caravan_operator.status.traces import start_span

log = logging.getLogger(__name__)
SWEEP_LIMIT = 500
"""Resources of a sweep in one batch: the most that one read requests."""

METRICS_SECONDS = 5.0

RunBatch = Callable[[Key, Sequence[Key]], Awaitable[None]]


class Workers:
    def __init__(self, cache: ResourceCache, queue: WorkQueue, run_batch: RunBatch, *, sweep_seconds: float) -> None:
        self._cache = cache
        self._queue = queue
        self._run_batch = run_batch
        self._sweep_seconds = sweep_seconds
        self._workers: dict[Key, asyncio.Task[None]] = {}
        self._running: dict[Key, float] = {}
        self.heartbeat_at = time.monotonic()

    async def run(self) -> None:
        """Until it is cancelled, or a worker fails for good: its exception is raised."""
        sweep_task = asyncio.create_task(self._run_sweeps())
        measured_at = self.heartbeat_at = time.monotonic()
        try:
            while True:
                await self._queue.wait_for_work(1.0)
                self.heartbeat_at = time.monotonic()
                self._start_workers()
                for task in [sweep_task, *self._workers.values()]:
                    if task.done():
                        task.result()
                if self.heartbeat_at - measured_at > METRICS_SECONDS:
                    measured_at = self.heartbeat_at
                    self.update_metrics()
        finally:
            tasks = [sweep_task, *self._workers.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def enqueue_sweep(self) -> None:
        """Request a pass over everything, with the lowest priority."""
        for resource in self._cache:
            self._queue.add(resource.key, self._cache.get_connection_key(resource), Priority.SWEEP)

    def get_oldest_batch_age(self) -> float:
        """Seconds that the longest running batch has taken so far."""
        return max((time.monotonic() - started for started in self._running.values()), default=0.0)

    def _start_workers(self) -> None:
        for group in self._queue.list_due_groups():
            if group not in self._workers or self._workers[group].done():
                self._workers[group] = asyncio.create_task(self._run_worker(group))

    async def _run_worker(self, group: Key) -> None:
        """Batches of one connection, as long as something is due."""
        while self._queue.count_due(group):
            limit, linger = self._get_batch_limits(group)
            if linger and self._queue.count_due(group) < limit:
                await asyncio.sleep(linger)
            keys = self._queue.take_due_keys(group, limit, SWEEP_LIMIT)
            if not keys:
                return
            self._running[group] = started_at = time.monotonic()
            try:
                with start_span("batch", connection=group.namespaced_name, resources=len(keys)):
                    await self._run_batch(group, keys)
            except LeaseLost:
                raise
            except Exception:
                log.exception("a batch failed", extra={"connection": group.namespaced_name, "resources": len(keys)})
                for key in keys:
                    self._queue.retry(key, group)
            finally:
                self._queue.mark_done(keys)
                del self._running[group]
                RECONCILE_SECONDS.labels(group.kind).observe(time.monotonic() - started_at)
                BATCH_SIZE.labels(group.kind).observe(len(keys))

    def _get_batch_limits(self, group: Key) -> tuple[int, float]:
        connection = self._cache.get(group)
        batch_spec = (connection.spec.get("batch") or {}) if connection else {}
        return batch_spec.get("size", 100), parse_seconds(batch_spec.get("linger", "100ms"))

    async def _run_sweeps(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_seconds * random.uniform(0.9, 1.1))
            self.enqueue_sweep()

    def update_metrics(self) -> None:
        self._queue.measure_oldest()
        UNFINISHED_SECONDS.set(self.get_oldest_batch_age())
        counts: dict[tuple[str, str], int] = {}
        for resource in self._cache:
            condition = resource.get_condition(READY)
            label = (resource.key.kind, condition["status"].lower() if condition else "unknown")
            counts[label] = counts.get(label, 0) + 1
        RESOURCES.clear()
        for (kind, ready), count in counts.items():
            RESOURCES.labels(kind, ready).set(count)
