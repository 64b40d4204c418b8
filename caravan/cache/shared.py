"""The cache as services use it: `answer = await context.cache.read(PRODUCT_LISTS, key, fill)`, and
`await context.cache.invalidate(tags)` after the commit of a change.

One reader of all processes computes an entry; the others wait until it is stored, by change notification and poll.
While Redis is unavailable every answer is computed, once for all who ask this process at a time, and a background task
tries Redis until it is back: no reader waits for it. Invalidations of that time are kept and delivered first.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from redis.asyncio import Redis

from caravan.cache.declarations import Cache, CachedAnswer, Fill, Result
from caravan.cache.server import SUBJECT, CacheServer, CacheUnavailable, EntryState, Lease
from caravan.client import deadline
from caravan.concurrency import DataLoader, end_tasks
from caravan.live import ChangeNotifications
from caravan.telemetry import log
from caravan.telemetry.metrics import CACHE_AVAILABLE, CACHE_FILL_DURATION, CACHE_INVALIDATIONS, CACHE_REQUESTS

FIRST_POLL_SECONDS = 0.02
LAST_POLL_SECONDS = 0.25
WAIT_LEASES = 2
"""Who has waited for so many leases computes the answer itself."""
TAKE_SECONDS = 0.05
"""So long after an answer of Redis a lease in it is there for its askers, who take it in the next step of the loop."""
FIRST_PAUSE_SECONDS = 0.05
LAST_PAUSE_SECONDS = 0.5
MAX_PENDING_TAGS = 10_000
"""Of invalidations that Redis has not taken; with more of them everything is invalidated instead."""

Compute = Callable[[], Coroutine[Any, Any, Fill]]

T = TypeVar("T")


class SharedCache:
    """One for a process."""

    def __init__(self, redis: Redis, changes: ChangeNotifications, *, is_enabled: bool = True) -> None:
        self._server = CacheServer(redis)
        self._changes = changes
        self._is_enabled = is_enabled
        self._entries: DataLoader[tuple[str, float], EntryState] = DataLoader(self._read_entries)
        self._fills: dict[str, asyncio.Task[Fill]] = {}
        self._pending_tags: set[str] = set()
        self._is_everything_void = False
        self._recovery: asyncio.Task[None] | None = None
        self._background_tasks: set[asyncio.Task[None]] = set()
        CACHE_AVAILABLE.set(1)

    async def read(self, cache: Cache, key: str, compute: Compute) -> CachedAnswer:
        """The answer, never older than what was invalidated before the question. Raises what `compute` raises."""
        answer = await self._read(cache, cache.build_entry_key(key), compute)
        CACHE_REQUESTS.labels(cache.service, answer.result).inc()
        return answer

    async def _read(self, cache: Cache, entry_key: str, compute: Compute) -> CachedAnswer:
        clock = asyncio.get_running_loop().time
        wait_end = clock() + WAIT_LEASES * cache.lease_seconds
        poll_seconds, is_first = FIRST_POLL_SECONDS, True
        while self._is_enabled and self._recovery is None and clock() < wait_end:
            try:
                [entry] = await self._entries.load_many([(entry_key, cache.lease_seconds)])
            except CacheUnavailable as error:
                self._start_recovery(error)
                break
            lease = entry.take_lease()
            if entry.state in ("hit", "stale"):
                if lease:
                    self._refresh(cache, entry_key, compute, lease)
                result: Result = "collapsed" if not is_first else "stale" if entry.state == "stale" else "hit"
                return CachedAnswer(entry.value, result, entry.seconds_left)
            if lease:
                fill = await asyncio.shield(
                    self._start_fill(entry_key, self._fill_entry(cache, entry_key, compute, lease))
                )
                return CachedAnswer(fill.value, "miss")
            await self._wait_for_entry(entry_key, min(poll_seconds, wait_end - clock()))
            poll_seconds, is_first = min(poll_seconds * 2, LAST_POLL_SECONDS), False
        return CachedAnswer((await self._compute_alone(entry_key, compute)).value, "bypass")

    async def _wait_for_entry(self, entry_key: str, seconds: float) -> None:
        """Until the entry may be there. Raises what its computation in this process raised."""
        fill = self._fills.get(entry_key)
        if fill is not None:
            await asyncio.wait({fill}, timeout=seconds)
            if fill.done() and not fill.cancelled() and (error := fill.exception()):
                raise error
            return
        async with self._changes.listen(SUBJECT, entry_key) as stored:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await stored.wait()

    async def _compute_alone(self, entry_key: str, compute: Compute) -> Fill:
        """Once for all who wait for it. One that is under way may have read its source before this question: that one
        is waited for, and the next one answers.
        """
        fill = self._fills.get(entry_key)
        if fill is not None:
            await asyncio.wait({fill})
            fill = self._fills.get(entry_key)
        return await asyncio.shield(fill or self._start_fill(entry_key, compute()))

    def _start_fill(self, entry_key: str, fill: Coroutine[Any, Any, Fill]) -> asyncio.Task[Fill]:
        """As a task of its own: others wait for it when the one who began it is cancelled."""
        task = _create_shared_task(fill)
        self._fills[entry_key] = task

        def end_fill(ended: asyncio.Task[Fill]) -> None:
            if self._fills.get(entry_key) is ended:
                del self._fills[entry_key]
            if not ended.cancelled():
                ended.exception()  # whoever waits for it raises it

        task.add_done_callback(end_fill)
        return task

    async def _fill_entry(self, cache: Cache, entry_key: str, compute: Compute, lease: Lease) -> Fill:
        began_at = time.perf_counter()
        try:
            fill = await compute()
        except BaseException:
            with suppress(CacheUnavailable):
                await self._server.release_lease(entry_key, lease)
            CACHE_FILL_DURATION.labels(cache.service, cache.name, "failed").observe(time.perf_counter() - began_at)
            raise
        seconds = cache.negative_seconds if fill.value is None else cache.seconds
        try:
            if len(fill.value or b"") > cache.max_bytes:
                await self._server.release_lease(entry_key, lease)
                result = "too_large"
            else:
                result = await self._server.store_entry(
                    entry_key, lease, fill.value, fill.tags, min(seconds, fill.seconds or seconds)
                )
        except CacheUnavailable as error:
            self._start_recovery(error)
            result = "unavailable"
        CACHE_FILL_DURATION.labels(cache.service, cache.name, result).observe(time.perf_counter() - began_at)
        return fill

    async def _read_entries(self, requests: Sequence[tuple[str, float]]) -> dict[tuple[str, float], EntryState]:
        """As the server, and gives back the leases of those whose askers have gone meanwhile."""
        entries = await self._server.read_entries(requests)
        for (entry_key, _), entry in entries.items():
            if entry.lease:
                asyncio.get_running_loop().call_later(TAKE_SECONDS, self._release_untaken, entry_key, entry)
        return entries

    def _release_untaken(self, entry_key: str, entry: EntryState) -> None:
        async def release_lease(lease: Lease) -> None:
            with suppress(CacheUnavailable):
                await self._server.release_lease(entry_key, lease)

        if lease := entry.take_lease():
            self._run_in_background(release_lease(lease))

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = _create_shared_task(work)
        self._background_tasks.add(task)
        task.add_done_callback(self._background_tasks.discard)

    def _refresh(self, cache: Cache, entry_key: str, compute: Compute, lease: Lease) -> None:
        """In the background."""

        async def refresh_entry() -> None:
            try:
                await self._fill_entry(cache, entry_key, compute, lease)
            except Exception as error:
                log.warning("an entry of the cache could not be refreshed", cache=cache.name, error=repr(error))

        self._run_in_background(refresh_entry())

    async def invalidate(self, tags: Collection[str]) -> None:
        """Void every entry that holds one of these tags. After the commit of the change, never before: a computation
        that begins in between would read the old state and be stored as new. Raises only that its task was cancelled:
        what can't be delivered now is delivered as soon as Redis answers, and then too.
        """
        if not tags:
            return
        for kind in {tag.partition(":")[0] for tag in tags}:
            CACHE_INVALIDATIONS.labels(kind).inc()
        if self._recovery is None:
            try:
                await self._server.invalidate_tags(tags)
                return
            except CacheUnavailable as error:
                self._start_recovery(error)
            except asyncio.CancelledError:
                self._start_recovery(CacheUnavailable("whoever invalidated was cancelled"))
                self._keep_tags(tags)
                raise
        self._keep_tags(tags)

    def _keep_tags(self, tags: Collection[str]) -> None:
        """For the recovery to deliver."""
        self._pending_tags.update(tags)
        if len(self._pending_tags) > MAX_PENDING_TAGS:
            self._pending_tags.clear()
            self._is_everything_void = True

    def _start_recovery(self, error: CacheUnavailable) -> None:
        if self._recovery is None:
            log.warning("the cache is unavailable: answers are computed", error=str(error))
            CACHE_AVAILABLE.set(0)
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        """Deliver what was invalidated meanwhile, then let readers use Redis again."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause)
            tags, self._pending_tags = self._pending_tags, set()
            is_everything_void, self._is_everything_void = self._is_everything_void, False
            try:
                if is_everything_void:
                    await self._server.void_all()
                await self._server.invalidate_tags(tags)
            except CacheUnavailable:
                self._pending_tags |= tags
                self._is_everything_void |= is_everything_void
                pause = min(pause * 2, LAST_PAUSE_SECONDS)
                continue
            if not self._pending_tags and not self._is_everything_void:
                break
        self._recovery = None
        CACHE_AVAILABLE.set(1)
        log.info("the cache is available again")

    async def close(self) -> None:
        await end_tasks([*self._background_tasks, *self._fills.values(), *([self._recovery] if self._recovery else [])])


def _create_shared_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """In the context of the reader who began it, but for its deadline: others have more time."""
    context = copy_context()
    context.run(deadline.set, None)
    return asyncio.create_task(work, context=context)
