"""Putting jobs into their queues: `context.jobs`."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from caravan import telemetry
from caravan.jobs.declare import Jobs, Kind, NewJob, is_own_id
from caravan.jobs.redis import AWAY, JobsAway, JobStore
from caravan.telemetry import log

BULK = 500
"""Jobs in one round trip; a million of them must not be one command."""
WAITING = 10_000
"""Most jobs that wait in memory to be enqueued; beyond, a sweeper has to find their rows."""


def options(kind: Kind, job: NewJob) -> dict[str, Any]:
    """BullMQ's options of a job."""
    found: dict[str, Any] = {
        "attempts": kind.attempts,
        "backoff": {"type": "exponential", "delay": round(kind.backoff_seconds * 1000)},
        "removeOnComplete": {"count": kind.keep_completed, "age": round(kind.keep_days * 86400)} if job.kept == "always" else True,
        "removeOnFail": {"count": kind.keep_failed, "age": round(kind.keep_days * 86400)} if job.kept != "never" else True,
        "stackTraceLimit": 3,
    }
    if job.id is not None:
        if not is_own_id(job.id):
            raise ValueError(f"{job.id!r}: the id of a job is of letters, digits, `-` and `_`, no number and no name of a key of BullMQ")
        found["jobId"] = job.id
    if job.delay.total_seconds() > 0:
        found["delay"] = round(job.delay.total_seconds() * 1000)
    if job.priority:
        found["priority"] = job.priority
    return found


def envelope(data: Any) -> dict[str, Any]:
    """What is stored of a job: its data, and in whose trace and on whose behalf it runs."""
    return {
        "data": data,
        "traceparent": telemetry.traceparent.get(),
        "request_id": telemetry.request_id.get(),
        "actor": telemetry.actor.get(),
    }


class Enqueuer:
    """Enqueues the jobs that a service has declared."""

    def __init__(self, store: JobStore, jobs: Jobs | None) -> None:
        self.store = store
        self._kinds = dict(jobs.declared) if jobs else {}
        self._waiting: dict[str, list[tuple[NewJob, dict[str, Any]]]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._hurry = asyncio.Event()

    async def enqueue(self, name: str, *new: NewJob) -> list[str]:
        """Add jobs in bulk; their ids, when Redis has them. Raises JobsAway."""
        return await self._add(self._kind(name), [(job, envelope(job.data)) for job in new or (NewJob(),)])

    def enqueue_soon(self, name: str, new: NewJob | None = None) -> None:
        """Add a job without waiting for Redis, together with others of the moment: what to do after a commit. Equal jobs of one moment become one.

        A job may be lost here, with the process or while Redis is away. So the row that it is about must be one that a sweeper finds.
        """
        kind, new = self._kind(name), new or NewJob()
        first = name not in self._waiting
        waiting = self._waiting.setdefault(name, [])
        if len(waiting) < WAITING and not any(new == other for other, _ in waiting[-100:]):
            waiting.append((new, envelope(new.data)))
        if first:
            task = asyncio.create_task(self._send(kind))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def flush(self) -> None:
        """Send now what `enqueue_soon` was given."""
        self._hurry.set()
        await asyncio.gather(*self._sending, return_exceptions=True)
        self._hurry.clear()

    async def _send(self, kind: Kind) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(kind.gather_seconds):
                await self._hurry.wait()
        new = self._waiting.pop(kind.name)
        try:
            await self._add(kind, new)
        except JobsAway as error:
            log.warning("not enqueued; the sweeper will find what is due", queue=kind.name, jobs=len(new), error=str(error))

    async def _add(self, kind: Kind, new: Sequence[tuple[NewJob, dict[str, Any]]]) -> list[str]:
        queue, ids = self.store.queue(kind.name), []
        try:
            for start in range(0, len(new), BULK):
                added = await queue.addBulk(
                    [{"name": kind.name, "data": data, "opts": options(kind, job)} for job, data in new[start : start + BULK]]
                )
                ids += [str(job.id) for job in added]
        except AWAY as error:
            raise JobsAway(f"{kind.name}: {type(error).__name__}: {error}") from error
        return ids

    def _kind(self, name: str) -> Kind:
        kind = self._kinds.get(name)
        if kind is None:
            raise LookupError(f"no job {name!r} is declared here; there are {', '.join(self._kinds) or 'none'}")
        return kind
