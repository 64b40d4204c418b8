"""One queue for everything: deduplicated by resource, in lanes, per connection, with pauses that grow. It can't overflow: a resource is in it once."""

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

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0


class Lane(IntEnum):
    """Lower goes first."""

    DELETE = 0
    SPEC = 1
    NEW = 2
    RETRY = 3
    SWEEP = 4


@dataclass(slots=True)
class _Entry:
    lane: Lane
    group: Key
    due: float


class WorkQueue:
    """Keys wait in groups (a group is worked on by one worker). A key that is asked for while it is worked on comes again afterwards."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[Key, _Entry] = {}
        self._due: dict[Key, list[tuple[int, int, Key]]] = defaultdict(list)
        self._later: list[tuple[float, int, Key]] = []
        self._running: set[Key] = set()
        self._again: dict[Key, _Entry] = {}
        self._attempts: dict[Key, int] = {}
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def add(self, key: Key, group: Key, lane: Lane, delay: float = 0.0) -> None:
        """Ask for a pass. An earlier or more urgent wish for the same key wins."""
        entry = _Entry(lane, group, self._clock() + delay)
        if key in self._running:
            self._again[key] = _sooner(self._again.get(key), entry)
            return
        before = self._entries.get(key)
        entry = _sooner(before, entry)
        if entry == before:
            return
        if before is None:
            QUEUE_ADDS.labels(lane.name).inc()
        self._entries[key] = entry
        if entry.due <= self._clock():
            heapq.heappush(self._due[group], (entry.lane, next(self._numbers), key))
        else:
            heapq.heappush(self._later, (entry.due, next(self._numbers), key))
        self._changed.set()

    def retry(self, key: Key, group: Key, lane: Lane = Lane.RETRY) -> float:
        """Ask for a pass after a pause that doubles with every attempt; returns the pause in seconds."""
        attempts = self._attempts[key] = self._attempts.get(key, 0) + 1
        pause = min(FIRST_PAUSE * 2.0 ** min(attempts - 1, 20), LONGEST_PAUSE) * random.uniform(0.7, 1.3)
        QUEUE_RETRIES.inc()
        self.add(key, group, lane, pause)
        return pause

    def attempts(self, key: Key) -> int:
        return self._attempts.get(key, 0)

    def forget(self, key: Key) -> None:
        """The pass has succeeded: the next failure starts with a short pause again."""
        self._attempts.pop(key, None)

    def discard(self, key: Key) -> None:
        """The resource is gone."""
        self._entries.pop(key, None)
        self._again.pop(key, None)
        self.forget(key)

    def ready(self, group: Key, limit: int, sweep_limit: int) -> list[Key]:
        """Up to `limit` keys that are due, most urgent first; of a sweep `sweep_limit`. They count as running until `done`."""
        self._promote()
        heap = self._due[group]
        taken: list[Key] = []
        now = self._clock()
        while heap and len(taken) < limit:
            lane, _, key = heapq.heappop(heap)
            entry = self._entries.get(key)
            if entry is None or entry.lane != lane or entry.due > now:
                continue  # it was discarded, or is in the heap a second time
            if not taken and entry.lane is Lane.SWEEP:
                limit = sweep_limit
            del self._entries[key]
            self._running.add(key)
            QUEUE_SECONDS.labels(entry.lane.name).observe(max(0.0, now - entry.due))
            taken.append(key)
        return taken

    def done(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._running.discard(key)
            again = self._again.pop(key, None)
            if again is not None:
                self.add(key, again.group, again.lane, max(0.0, again.due - self._clock()))

    def waiting(self, group: Key) -> int:
        self._promote()
        return len(self._due[group])

    def groups(self) -> list[Key]:
        """Groups in which something is due."""
        self._promote()
        return [group for group, heap in self._due.items() if heap]

    async def wait(self, longest: float = 1.0) -> None:
        """Until something was added, the next key is due, or `longest` seconds have passed."""
        until = min(longest, self._later[0][0] - self._clock()) if self._later else longest
        try:
            async with asyncio.timeout(max(0.0, until)):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def idle(self) -> bool:
        """Whether nothing is due and nothing runs."""
        now = self._clock()
        return not self._running and not any(entry.due <= now for entry in self._entries.values())

    def oldest(self) -> float:
        """Seconds that the longest waiting due key has waited; also sets the gauges."""
        now = self._clock()
        depth = dict.fromkeys(Lane, 0)
        oldest = 0.0
        for entry in self._entries.values():
            if entry.due <= now:
                depth[entry.lane] += 1
                oldest = max(oldest, now - entry.due)
        for lane, count in depth.items():
            QUEUE_DEPTH.labels(lane.name).set(count)
        QUEUE_OLDEST.set(oldest)
        return oldest

    def _promote(self) -> None:
        """Move what has become due from the pauses to its lane."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            _, _, key = heapq.heappop(self._later)
            entry = self._entries.get(key)
            if entry is not None and entry.due <= now:
                heapq.heappush(self._due[entry.group], (entry.lane, next(self._numbers), key))


def _sooner(before: _Entry | None, now: _Entry) -> _Entry:
    """The more urgent lane and the earlier time of both: a changed spec does not wait for the retry of the old one."""
    if before is None:
        return now
    return _Entry(min(before.lane, now.lane), now.group, min(before.due, now.due))
