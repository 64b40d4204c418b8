"""Running jobs: a worker per kind and process, with lease, bounds, trace context and an orderly end."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any

from bullmq import Job as Stored
from bullmq import Worker
from bullmq.custom_errors import DelayedError, UnrecoverableError
from opentelemetry.trace import SpanKind

from caravan import crash, telemetry
from caravan.bus import Background
from caravan.clock import EPOCH, utc_now
from caravan.database import CONNECTION_LOST
from caravan.errors import Reject
from caravan.jobs.declare import Cron, Job, Kind, NewJob, Report
from caravan.jobs.enqueue import envelope, options
from caravan.jobs.redis import AWAY, BLOCK_SECONDS, PREFIX, JobStore
from caravan.telemetry import log

MAX_STALLED = 3
"""How many workers may die with a job before it counts as failed: it may be the job that kills them."""
ANNOUNCE_SECONDS = 30.0
AGAIN_SECONDS = 1.0
LATE_SECONDS = 60.0
REPORT_SECONDS = 1.0


class JobFailed(Exception):
    """One attempt of a job failed; the text names the error."""


def moment(milliseconds: float) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


class Workers:
    """The workers of a process; `contexts` says in which context each kind runs."""

    def __init__(self, store: JobStore, contexts: Sequence[tuple[Kind, Any]]) -> None:
        self._store = store
        self._kinds = [kind for kind, _ in contexts]
        self.lines = {kind.name: Line(store, kind, context) for kind, context in contexts}

    def tasks(self) -> list[tuple[str, Background]]:
        """What runs as long as the process, by name."""
        if not self.lines:
            return []
        return [("job queues", self._announce), *((f"jobs {line.kind.name}", line.run) for line in self.lines.values())]

    async def stop(self, seconds: float) -> None:
        """Take no further job and let those in hand end within the time; after it they are given up, and another worker will have them."""
        await asyncio.gather(*(line.stop(seconds) for line in self.lines.values()))

    async def measure(self) -> None:
        """Set the gauges of what is in the queues."""
        with contextlib.suppress(*AWAY):
            for kind in self._kinds:
                for state, count in (await self._store.queue(kind.name).getJobCounts()).items():
                    telemetry.JOBS.labels(kind.name, state).set(count)

    async def _announce(self) -> None:
        """Again and again: what Redis forgets comes back."""
        while True:
            try:
                await self.announce()
            except AWAY as error:
                log.warning("job queues wait for redis", error=repr(error))
            except Exception as error:
                log.error("job queues are not announced", exc_info=error)
            await asyncio.sleep(ANNOUNCE_SECONDS)

    async def announce(self) -> None:
        """Tell Redis which queues and schedules there are."""
        await self._store.register(self._kinds)
        for kind in self._kinds:
            await self._keep_schedule(kind)

    async def _keep_schedule(self, kind: Kind) -> None:
        queue = self._store.queue(kind.name)
        there = await self._store.schedule(kind.name)
        if kind.schedule is None:
            if there is not None:
                await queue.removeJobScheduler(kind.name)
            return
        repeat = _repeat(kind)
        overdue = there is not None and moment(there["next"] or 0) < utc_now() - timedelta(seconds=LATE_SECONDS)
        if there is None or overdue or any(there.get(name) != value for name, value in repeat.items()):
            with contextlib.suppress(TypeError):  # its run of this moment is there already
                await queue.upsertJobScheduler(kind.name, repeat, kind.name, envelope(None), options(kind, NewJob()))


def _repeat(kind: Kind) -> dict[str, Any]:
    if isinstance(kind.schedule, Cron):
        return {"pattern": kind.schedule.pattern, "tz": kind.schedule.zone}
    assert kind.schedule is not None
    return {"every": round(kind.schedule.seconds * 1000)}


class Line:
    """The worker of one kind, made anew when it ends without being asked to."""

    def __init__(self, store: JobStore, kind: Kind, context: Any) -> None:
        self.kind = kind
        self._store = store
        self._context = context
        self._worker: Any = None
        self.stopping = False

    async def run(self) -> None:
        while not self.stopping:
            try:
                self._worker = self._make()
                await self._worker.run()
            except AWAY as error:
                log.warning("jobs wait for redis", queue=self.kind.name, error=repr(error))
            except Exception as error:
                log.error("a worker of jobs ended", queue=self.kind.name, exc_info=error)
            if not self.stopping:
                await asyncio.sleep(AGAIN_SECONDS)

    def _make(self) -> Any:
        lease = round(self.kind.lease_seconds * 1000)
        worker = Worker(
            self.kind.name,
            self._process,
            {
                "connection": self._store.blocking(),
                "prefix": PREFIX,
                "autorun": False,
                "concurrency": self.kind.concurrency,
                "lockDuration": lease,
                "stalledInterval": lease,
                "maxStalledCount": MAX_STALLED,
                "drainDelay": BLOCK_SECONDS,
                "runRetryDelay": round(AGAIN_SECONDS * 1000),
            },
        )
        worker.on("error", self._note)
        worker.on("stalled", lambda job_id: log.warning("a worker died with a job; it is waiting again", queue=self.kind.name, job=job_id))
        # Redis has answered in fractions of a second since 6.0; without this a delay would be rounded up to whole ones.
        worker.backend.blocking_connection.capabilities = {"canBlockFor1Ms": False, "canDoubleTimeout": True}
        return worker

    def _note(self, error: object, *_: object) -> None:
        log.warning("jobs", queue=self.kind.name, error=repr(error))

    async def stop(self, seconds: float) -> None:
        self.stopping = True
        if self._worker is None:
            return
        closing = asyncio.create_task(self._worker.close())
        done, _ = await asyncio.wait([closing], timeout=seconds)
        if not done:
            log.warning("jobs are given up; another worker will have them", queue=self.kind.name)
            await self._worker.close(force=True)
            await closing

    async def _process(self, stored: Any, token: str) -> Any:
        """BullMQ's processor: it runs in a task of its own, so what is set here ends with the job."""
        told = stored.data if isinstance(stored.data, dict) else {}
        telemetry.service_name.set(self._context.service)
        telemetry.request_id.set(told.get("request_id"))
        telemetry.actor.set(told.get("actor"))
        parent = telemetry.parse_traceparent(told.get("traceparent")) or telemetry.new_traceparent()
        started, result = perf_counter(), "failed"
        with telemetry.span(f"job {self.kind.name}", SpanKind.CONSUMER, parent=parent):
            try:
                answer = await self._attempt(self._job(stored, told.get("data")))
                result = "done"
                return answer
            except CONNECTION_LOST as error:  # the infrastructure's trouble costs no attempt
                result = "held"
                log.warning("a job waits", queue=self.kind.name, job=stored.id, error=repr(error))
                await stored.moveToDelayed(round((utc_now() - EPOCH).total_seconds() * 1000 + AGAIN_SECONDS * 1000), token)
                raise DelayedError from error
            except Reject as error:
                raise UnrecoverableError(f"Reject: {error}") from error
            except Exception as error:
                attempt = stored.attemptsMade + 1
                level, trace = (log.error, error) if attempt >= stored.opts.get("attempts", 1) else (log.warning, None)
                level("a job failed", queue=self.kind.name, job=stored.id, attempt=attempt, error=repr(error), exc_info=trace)
                raise JobFailed(f"{type(error).__name__}: {error}") from error
            finally:
                telemetry.JOB_DURATION.labels(self.kind.name, result).observe(perf_counter() - started)

    async def _attempt(self, job: Job) -> Any:
        crash.point("job.before_effect")
        try:
            async with asyncio.timeout(self.kind.seconds) as limit:
                answer = await self.kind.run(self._context, job)
        except TimeoutError as error:
            if limit.expired():
                raise JobFailed(f"not done within {self.kind.seconds:g} s") from error
            raise
        crash.point("job.after_effect")
        return answer

    def _job(self, stored: Any, data: Any) -> Job:
        due = None
        if stored.repeatJobKey:
            due = moment(int(stored.id.rpartition(":")[2]))
            if utc_now() - due > timedelta(seconds=LATE_SECONDS):
                log.warning("a scheduled job runs late; runs between were missed", queue=self.kind.name, due=due.isoformat())
                telemetry.JOBS_LATE.labels(self.kind.name).inc()
        return Job(str(stored.id), self.kind.name, data, stored.attemptsMade + 1, due, _reporter(stored), lambda: self.stopping)


def _reporter(stored: Stored) -> Report:
    loop, last = asyncio.get_running_loop(), -REPORT_SECONDS

    async def report(done: int, total: int | None = None) -> None:
        nonlocal last
        if loop.time() - last >= REPORT_SECONDS or done == total:
            last = loop.time()
            with contextlib.suppress(*AWAY):
                await stored.updateProgress({"done": done, "total": total})

    return report
