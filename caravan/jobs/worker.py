"""One worker of a job type: takes its jobs and runs them, with lease, limits, trace context and an orderly end.

`workers.py` has those of a process.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any

from bullmq import Job as Stored
from bullmq import Worker
from bullmq.custom_errors import DelayedError, UnrecoverableError
from opentelemetry.trace import SpanKind

from caravan import failpoint, fault_flags, telemetry
from caravan.clock import EPOCH, utc_now
from caravan.concurrency import raise_if_cancelled
from caravan.database import CONNECTION_LOST
from caravan.errors import MessageRejected
from caravan.fifo_cache import FifoCache
from caravan.jobs.declarations import Job, JobType, ProgressReporter
from caravan.jobs.enqueue import build_attributes
from caravan.jobs.redis import BLOCK_SECONDS, PREFIX, UNAVAILABLE_ERRORS, JobStore, ServerTooOld
from caravan.telemetry import log, metrics

_MAX_STALLED = 3
"""How many workers may die with a job before it counts as failed: it may be the job that kills them."""
_RETRY_SECONDS = 1.0
LATE_AFTER_SECONDS = 60.0
_REPORT_SECONDS = 1.0
_FAILED_ATTEMPTS_MAX = 1_000


class JobError(Exception):
    """One attempt of a job failed; the text names the error."""


def to_datetime(milliseconds: float) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


class JobWorker:
    """The worker of one kind, made anew when it ends without being asked to."""

    def __init__(self, store: JobStore, job_type: JobType, context: Any) -> None:
        self.job_type = job_type
        self._store = store
        self._context = context
        self._worker: Any = None
        metrics.start_at_zero(metrics.JOB_DURATION, [job_type.name], ("done", "failed", "postponed"))
        metrics.JOBS_LATE.labels(job_type.name)  # begins at 0
        self.is_stopping = False
        self._failed_attempts: FifoCache[str, str] = FifoCache(_FAILED_ATTEMPTS_MAX)
        """The span of the first attempt at each job that failed lately."""

    async def run(self) -> None:
        while not self.is_stopping:
            try:
                await self._store.check_server()  # again: it may have been away when the process started
                await self._run_worker()
            except (*UNAVAILABLE_ERRORS, ServerTooOld) as error:
                log.warning("jobs wait for redis", queue=self.job_type.name, error=str(error) or repr(error))
            except Exception as error:
                raise_if_cancelled(error)
                log.error("a worker of jobs ended", queue=self.job_type.name, exc_info=error)
            if not self.is_stopping:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _run_worker(self) -> None:
        if not self.is_stopping:
            self._worker = self._create_worker()
            await self._worker.run()

    def _create_worker(self) -> Any:
        lease_ms = round(self.job_type.lease_seconds * 1000)
        worker = Worker(
            self.job_type.name,
            self._process_job,
            {
                "connection": self._store.create_blocking_client(),
                "prefix": PREFIX,
                "autorun": False,
                "concurrency": self.job_type.concurrency,
                "lockDuration": lease_ms,
                "stalledInterval": lease_ms,
                "maxStalledCount": _MAX_STALLED,
                "drainDelay": BLOCK_SECONDS,
                "runRetryDelay": round(_RETRY_SECONDS * 1000),
            },
        )
        worker.on("error", self._log_error)
        worker.on(
            "stalled",
            lambda job_id: log.warning(
                "a worker died with a job; it is waiting again", queue=self.job_type.name, job=job_id
            ),
        )
        # BullMQ's worker doesn't ask for the version, and would round delays up to whole seconds for the oldest Redis.
        # This one is not that old: `run` has checked it.
        worker.backend.blocking_connection.capabilities = {"canBlockFor1Ms": True, "canDoubleTimeout": True}
        return worker

    def _log_error(self, error: object, *_: object) -> None:
        log.warning("jobs", queue=self.job_type.name, error=repr(error))

    async def stop(self, seconds: float) -> None:
        self.is_stopping = True
        if self._worker is None:
            return
        close_task = asyncio.create_task(self._worker.close())
        done_tasks, _ = await asyncio.wait([close_task], timeout=seconds)
        if not done_tasks:
            log.warning("jobs are given up; another worker will have them", queue=self.job_type.name)
            await self._worker.close(force=True)
            await close_task

    async def _process_job(self, stored: Any, token: str) -> Any:
        """BullMQ's processor: it runs in a task of its own, so what is set here ends with the job."""
        envelope = stored.data if isinstance(stored.data, dict) else {}
        telemetry.service_name.set(self._context.service)
        telemetry.request_id.set(envelope.get("request_id"))
        telemetry.actor.set(envelope.get("actor"))
        started_at, result = perf_counter(), "failed"
        with self._start_span(stored, envelope):
            try:
                value = await self._run_attempt(self._build_job(stored, envelope.get("data")))
                result = "done"
                return value
            except CONNECTION_LOST as error:  # the infrastructure's trouble costs no attempt
                result = "postponed"
                log.warning("a job waits", queue=self.job_type.name, job=stored.id, error=repr(error))
                await stored.moveToDelayed(
                    round((utc_now() - EPOCH).total_seconds() * 1000 + _RETRY_SECONDS * 1000), token
                )
                raise DelayedError from error
            except MessageRejected as error:
                raise UnrecoverableError(f"Reject: {error}") from error
            except Exception as error:
                attempt = stored.attemptsMade + 1
                level, trace = (log.error, error) if attempt >= stored.opts.get("attempts", 1) else (log.warning, None)
                level(
                    "a job failed",
                    queue=self.job_type.name,
                    job=stored.id,
                    attempt=attempt,
                    error=repr(error),
                    exc_info=trace,
                )
                raise JobError(f"{type(error).__name__}: {error}") from error
            finally:
                metrics.JOB_DURATION.labels(self.job_type.name, result).observe(
                    perf_counter() - started_at, telemetry.build_exemplar()
                )

    @contextmanager
    def _start_span(self, stored: Any, envelope: dict[str, Any]) -> Iterator[None]:
        """In the trace of whoever enqueued it, with links to those who asked for the same, and to the first attempt. A
        run of a schedule begins a trace of its own: what announced the schedule did not cause it.
        """
        is_scheduled = bool(stored.repeatJobKey)
        parent = None if is_scheduled else telemetry.parse_traceparent(envelope.get("traceparent"))
        links = envelope.get("links")
        attributes: dict[str, str | int] = {}
        if telemetry.is_recording():
            attributes = {
                **build_attributes(self.job_type.name),
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.message.id": str(stored.id),
                "caravan.message.attempt": stored.attemptsMade + 1,
            }
        with telemetry.start_span(
            f"process {self.job_type.name}",
            SpanKind.INTERNAL if is_scheduled else SpanKind.CONSUMER,
            parent=parent or telemetry.new_traceparent(),
            links=[*map(str, links if isinstance(links, list) else ()), self._failed_attempts.get(stored.id)],
            attributes=attributes,
        ):
            try:
                yield
            except Exception:
                if telemetry.is_recording():
                    self._failed_attempts.setdefault(stored.id, telemetry.traceparent.get() or "")
                raise

    async def _run_attempt(self, job: Job) -> Any:
        failpoint.hit("job.before_effect")
        if fault_flags.active and fault_flags.is_on(fault_flags.JOB_FAILING, self.job_type.name):
            raise MessageRejected("the fault job-failing is on")
        try:
            async with asyncio.timeout(self.job_type.seconds) as timeout:
                value = await self.job_type.run(self._context, job)
        except TimeoutError as error:
            if timeout.expired():
                raise JobError(f"not done within {self.job_type.seconds:g} s") from error
            raise
        failpoint.hit("job.after_effect")
        return value

    def _build_job(self, stored: Any, data: Any) -> Job:
        scheduled_at = None
        if stored.repeatJobKey:
            scheduled_at = to_datetime(int(stored.id.rpartition(":")[2]))
            if utc_now() - scheduled_at > timedelta(seconds=LATE_AFTER_SECONDS):
                log.warning(
                    "a scheduled job runs late; runs between were missed",
                    queue=self.job_type.name,
                    due=scheduled_at.isoformat(),
                )
                metrics.JOBS_LATE.labels(self.job_type.name).inc()
        return Job(
            str(stored.id),
            self.job_type.name,
            data,
            stored.attemptsMade + 1,
            scheduled_at,
            _make_reporter(stored),
            lambda: self.is_stopping,
        )


def _make_reporter(stored: Stored) -> ProgressReporter:
    loop, last_sent_at = asyncio.get_running_loop(), -_REPORT_SECONDS

    async def report_progress(done: int, total: int | None = None) -> None:
        nonlocal last_sent_at
        if loop.time() - last_sent_at >= _REPORT_SECONDS or done == total:
            last_sent_at = loop.time()
            with contextlib.suppress(*UNAVAILABLE_ERRORS):
                await stored.updateProgress({"done": done, "total": total})

    return report_progress
