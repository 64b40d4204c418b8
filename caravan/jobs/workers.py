"""The workers of a process, one for each job type, and what they announce in Redis: queues and schedules.

The runtime starts and drains them; `worker.py` runs the jobs.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from caravan.bus import BackgroundTask
from caravan.clock import utc_now
from caravan.concurrency import raise_if_cancelled
from caravan.jobs.declarations import Cron, JobRequest, JobType
from caravan.jobs.enqueue import build_envelope, build_options
from caravan.jobs.redis import UNAVAILABLE_ERRORS, JobStore
from caravan.jobs.worker import LATE_AFTER_SECONDS, JobWorker, to_datetime
from caravan.telemetry import log, metrics

_ANNOUNCE_SECONDS = 30.0


class Workers:
    """The workers of a process; `contexts` says in which context the jobs of each type run."""

    def __init__(self, store: JobStore, contexts: Sequence[tuple[JobType, Any]]) -> None:
        self._store = store
        self._job_types = [job_type for job_type, _ in contexts]
        self.workers = {job_type.name: JobWorker(store, job_type, context) for job_type, context in contexts}

    def list_background_tasks(self) -> list[tuple[str, BackgroundTask]]:
        """What runs as long as the process, by name."""
        if not self.workers:
            return []
        return [
            ("job queues", self._announce_periodically),
            *((f"jobs {worker.job_type.name}", worker.run) for worker in self.workers.values()),
        ]

    async def stop(self, seconds: float) -> None:
        """Take no further job and let the running ones end within the time; after it they are given up, and another
        worker will have them.
        """
        await asyncio.gather(*(worker.stop(seconds) for worker in self.workers.values()))

    async def update_gauges(self) -> None:
        """Set the gauges of what is in the queues."""
        with contextlib.suppress(*UNAVAILABLE_ERRORS):
            for job_type in self._job_types:
                queue = self._store.get_queue(job_type.name)
                counts = await queue.getJobCounts()
                for state, count in counts.items():
                    metrics.JOB_COUNT.labels(job_type.name, state).set(count)
                due = counts.get("waiting", 0) + counts.get("prioritized", 0)
                oldest = await queue.getJobs(["waiting", "prioritized"], 0, 0, True) if due else []
                metrics.JOBS_OLDEST_AGE.labels(job_type.name).set(_measure_age(oldest))

    async def _announce_periodically(self) -> None:
        """Again and again: what Redis forgets comes back."""
        while True:
            try:
                await self.announce_queues()
            except UNAVAILABLE_ERRORS as error:
                log.warning("job queues wait for redis", error=repr(error))
            except Exception as error:
                raise_if_cancelled(error)
                log.error("job queues are not announced", exc_info=error)
            await asyncio.sleep(_ANNOUNCE_SECONDS)

    async def announce_queues(self) -> None:
        """Tell Redis which queues and schedules there are."""
        await self._store.register_queues(self._job_types)
        for job_type in self._job_types:
            await self._sync_schedule(job_type)

    async def _sync_schedule(self, job_type: JobType) -> None:
        queue = self._store.get_queue(job_type.name)
        existing = await self._store.fetch_schedule(job_type.name)
        if job_type.schedule is None:
            if existing is not None:
                await queue.removeJobScheduler(job_type.name)
            return
        repeat = _build_repeat_options(job_type)
        is_overdue = existing is not None and to_datetime(existing["next"] or 0) < utc_now() - timedelta(
            seconds=LATE_AFTER_SECONDS
        )
        if existing is None or is_overdue or any(existing.get(name) != value for name, value in repeat.items()):
            with contextlib.suppress(TypeError):  # its run of this moment is there already
                await queue.upsertJobScheduler(
                    job_type.name, repeat, job_type.name, build_envelope(None), build_options(job_type, JobRequest())
                )


def _build_repeat_options(job_type: JobType) -> dict[str, Any]:
    if isinstance(job_type.schedule, Cron):
        return {"pattern": job_type.schedule.pattern, "tz": job_type.schedule.zone}
    assert job_type.schedule is not None
    return {"every": round(job_type.schedule.seconds * 1000)}


def _measure_age(jobs: Sequence[Any]) -> float:
    """Seconds since the first of these became due."""
    due_times = [to_datetime(job.timestamp + (job.opts.get("delay") or 0)) for job in jobs]
    return max(0.0, (utc_now() - min(due_times)).total_seconds()) if due_times else 0.0
