"""The work queue: keys of resources, deduplicated, ordered by priority, grouped by connection, with pauses that grow
on retries. Its size is bounded by the number of resources, because a key is in it once.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

from caravan_operator.resources.resource import Key
from caravan_operator.status.metrics import QUEUE_ADDS, QUEUE_DEPTH, QUEUE_OLDEST, QUEUE_RETRIES, QUEUE_SECONDS

MIN_PAUSE, MAX_PAUSE = 0.5, 60.0


class Priority(IntEnum):
    """The lowest value is taken first."""

    DELETE = 0
    SPEC = 1
    NEW = 2
    RETRY = 3
    SWEEP = 4


@dataclass(slots=True)
class _Entry:
    priority: Priority
    group: Key
    due_at: float


class WorkQueue:
    """Keys wait in groups; one worker takes the keys of a group. A key that is added while it is being processed is
    processed again afterwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[Key, _Entry] = {}
        self._due_keys: dict[Key, list[tuple[int, int, Key]]] = defaultdict(list)
        self._delayed_keys: list[tuple[float, int, Key]] = []
        self._running: set[Key] = set()
        self._requeued: dict[Key, _Entry] = {}
        self._attempts: dict[Key, int] = {}
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def add(self, key: Key, group: Key, priority: Priority, delay: float = 0.0) -> None:
        """Request a pass. Of two requests for a key the higher priority and the earlier time win."""
        entry = _Entry(priority, group, self._clock() + delay)
        if key in self._running:
            self._requeued[key] = _merge_entries(self._requeued.get(key), entry)
            return
        previous = self._entries.get(key)
        entry = _merge_entries(previous, entry)
        if entry == previous:
            return
        if previous is None:
            QUEUE_ADDS.labels(priority.name).inc()
        self._entries[key] = entry
        if entry.due_at <= self._clock():
            heapq.heappush(self._due_keys[group], (entry.priority, next(self._numbers), key))
        else:
            heapq.heappush(self._delayed_keys, (entry.due_at, next(self._numbers), key))
        self._changed.set()

    def retry(self, key: Key, group: Key, priority: Priority = Priority.RETRY) -> float:
        """Request a pass after a pause that doubles with every attempt; returns the pause in seconds."""
        attempts = self._attempts[key] = self._attempts.get(key, 0) + 1
        pause = min(MIN_PAUSE * 2.0 ** min(attempts - 1, 20), MAX_PAUSE) * random.uniform(0.7, 1.3)
        QUEUE_RETRIES.inc()
        self.add(key, group, priority, pause)
        return pause

    def get_attempts(self, key: Key) -> int:
        return self._attempts.get(key, 0)

    def reset_attempts(self, key: Key) -> None:
        """The pass has succeeded: the next failure starts with a short pause again."""
        self._attempts.pop(key, None)

    def discard(self, key: Key) -> None:
        """Drop a key whose resource was deleted."""
        self._entries.pop(key, None)
        self._requeued.pop(key, None)
        self.reset_attempts(key)

    def take_due_keys(self, group: Key, limit: int, sweep_limit: int) -> list[Key]:
        """Up to `limit` keys that are due, most urgent first; of a sweep `sweep_limit`. They count as running until
        `mark_done`.
        """
        self._promote_due()
        heap = self._due_keys[group]
        keys: list[Key] = []
        now = self._clock()
        while heap and len(keys) < limit:
            priority, _, key = heapq.heappop(heap)
            entry = self._entries.get(key)
            if entry is None or entry.priority != priority or entry.due_at > now:
                continue  # it was discarded, or is in the heap a second time
            if not keys and entry.priority is Priority.SWEEP:
                limit = sweep_limit
            del self._entries[key]
            self._running.add(key)
            QUEUE_SECONDS.labels(entry.priority.name).observe(max(0.0, now - entry.due_at))
            keys.append(key)
        return keys

    def mark_done(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._running.discard(key)
            requeued = self._requeued.pop(key, None)
            if requeued is not None:
                self.add(key, requeued.group, requeued.priority, max(0.0, requeued.due_at - self._clock()))

    def count_due(self, group: Key) -> int:
        self._promote_due()
        return len(self._due_keys[group])

    def list_due_groups(self) -> list[Key]:
        """Groups in which something is due."""
        self._promote_due()
        return [group for group, heap in self._due_keys.items() if heap]

    async def wait_for_work(self, max_seconds: float = 1.0) -> None:
        """Until something was added, the next key is due, or `max_seconds` have passed."""
        seconds = min(max_seconds, self._delayed_keys[0][0] - self._clock()) if self._delayed_keys else max_seconds
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def is_idle(self) -> bool:
        """Whether nothing is due and nothing runs."""
        now = self._clock()
        return not self._running and not any(entry.due_at <= now for entry in self._entries.values())

    def measure_oldest(self) -> float:
        """Seconds that the longest waiting due key has waited; also sets the gauges."""
        now = self._clock()
        depth = dict.fromkeys(Priority, 0)
        oldest = 0.0
        for entry in self._entries.values():
            if entry.due_at <= now:
                depth[entry.priority] += 1
                oldest = max(oldest, now - entry.due_at)
        for priority, count in depth.items():
            QUEUE_DEPTH.labels(priority.name).set(count)
        QUEUE_OLDEST.set(oldest)
        return oldest

    def _promote_due(self) -> None:
        """Move the keys that have become due to the heap of their group."""
        now = self._clock()
        while self._delayed_keys and self._delayed_keys[0][0] <= now:
            _, _, key = heapq.heappop(self._delayed_keys)
            entry = self._entries.get(key)
            if entry is not None and entry.due_at <= now:
                heapq.heappush(self._due_keys[entry.group], (entry.priority, next(self._numbers), key))


def _merge_entries(previous: _Entry | None, current: _Entry) -> _Entry:
    """The higher priority and the earlier time of both: a changed spec does not wait for the retry of the old one."""
    if previous is None:
        return current
    return _Entry(min(previous.priority, current.priority), current.group, min(previous.due_at, current.due_at))
