"""`context.jobs`: puts jobs into their queues."""

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry.trace import SpanKind

from caravan import telemetry
from caravan.jobs.declarations import JobRequest, Jobs, JobType, is_custom_id
from caravan.jobs.redis import UNAVAILABLE_ERRORS, JobStore, JobsUnavailable
from caravan.telemetry import log

_BULK_MAX = 500
"""Jobs in one round trip; a million of them must not be one command."""
_LINKS_MAX = 100
_PENDING_MAX = 10_000
"""Most jobs that wait in memory to be enqueued; beyond, a sweeper has to find their rows."""


def build_options(job_type: JobType, request: JobRequest) -> dict[str, Any]:
    """BullMQ's options of a job."""
    options: dict[str, Any] = {
        "attempts": job_type.attempts,
        "backoff": {"type": "exponential", "delay": round(job_type.backoff_seconds * 1000)},
        "removeOnComplete": {"count": job_type.keep_completed, "age": round(job_type.keep_days * 86400)}
        if request.keep == "always"
        else True,
        "removeOnFail": {"count": job_type.keep_failed, "age": round(job_type.keep_days * 86400)}
        if request.keep != "never"
        else True,
        "stackTraceLimit": 3,
    }
    if request.id is not None:
        if not is_custom_id(request.id):
            raise ValueError(
                f"{request.id!r}: the id of a job is of letters, digits, `-` and `_`, no number and no name of a key "
                "of BullMQ"
            )
        options["jobId"] = request.id
    if request.delay.total_seconds() > 0:
        options["delay"] = round(request.delay.total_seconds() * 1000)
    if request.priority:
        options["priority"] = request.priority
    return options


def build_envelope(data: Any) -> dict[str, Any]:
    """What is stored of a job: its data, and in whose trace and on whose behalf it runs."""
    return {
        "data": data,
        "traceparent": telemetry.choose_traceparent(),
        "request_id": telemetry.request_id.get(),
        "actor": telemetry.actor.get(),
    }


def _start_span(job_type: JobType, traceparents: Sequence[str | None]) -> AbstractContextManager[object]:
    attributes: dict[str, str | int] = {}
    if telemetry.is_recording():
        attributes = {
            **build_attributes(job_type.name),
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
        }
        if len(traceparents) > 1:
            attributes["messaging.batch.message_count"] = len(traceparents)
    return telemetry.start_span(
        f"publish {job_type.name}",
        SpanKind.PRODUCER,
        parent=traceparents[0] if traceparents else None,
        links=traceparents[1:],
        attributes=attributes,
    )


def build_attributes(queue: str) -> dict[str, str | int]:
    """What spans of jobs say of where they are."""
    return {"messaging.system": "bullmq", "messaging.destination.name": queue}


def _add_cause(envelope: dict[str, Any]) -> None:
    """One more trace that the job belongs to: its span links to it."""
    if telemetry.is_recording():
        links = envelope.setdefault("links", [])
        if len(links) < _LINKS_MAX:
            links.append(telemetry.choose_traceparent())


class Enqueuer:
    """Enqueues the jobs that a service has declared."""

    def __init__(self, store: JobStore, jobs: Jobs | None) -> None:
        self.store = store
        self._job_types = dict(jobs.job_types) if jobs else {}
        self._pending_requests: dict[str, list[tuple[JobRequest, dict[str, Any]]]] = {}
        self._send_tasks: set[asyncio.Task[None]] = set()
        self._flush_requested = asyncio.Event()

    async def enqueue(self, name: str, *requests: JobRequest) -> list[str]:
        """Add jobs in bulk; their ids, when Redis has them. Raises JobsUnavailable."""
        return await self._add_jobs(
            self._get_job_type(name), [(job, build_envelope(job.data)) for job in requests or (JobRequest(),)]
        )

    def enqueue_soon(self, name: str, request: JobRequest | None = None) -> None:
        """Add a job without waiting for Redis, together with others of the moment: what to do after a commit. Equal
        jobs of one moment become one.

        A job may be lost here, with the process or while Redis is unavailable. So the row that it is about must be one
        that a sweeper finds.
        """
        job_type, request = self._get_job_type(name), request or JobRequest()
        is_first = name not in self._pending_requests
        pending = self._pending_requests.setdefault(name, [])
        envelope = next((envelope for other, envelope in pending[-100:] if other == request), None)
        if envelope is not None:
            _add_cause(envelope)
        elif len(pending) < _PENDING_MAX:
            pending.append((request, build_envelope(request.data)))
        if is_first:
            task = asyncio.create_task(self._send_pending(job_type))
            self._send_tasks.add(task)
            task.add_done_callback(self._send_tasks.discard)

    async def flush(self) -> None:
        """Send now what `enqueue_soon` was given."""
        self._flush_requested.set()
        await asyncio.gather(*self._send_tasks, return_exceptions=True)
        self._flush_requested.clear()

    async def _send_pending(self, job_type: JobType) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(job_type.debounce_seconds):
                await self._flush_requested.wait()
        pending = self._pending_requests.pop(job_type.name)
        try:
            await self._add_jobs(job_type, pending)
        except JobsUnavailable as error:
            log.warning(
                "not enqueued; the sweeper will find what is due",
                queue=job_type.name,
                jobs=len(pending),
                error=str(error),
            )

    async def _add_jobs(self, job_type: JobType, requests: Sequence[tuple[JobRequest, dict[str, Any]]]) -> list[str]:
        queue, ids = self.store.get_queue(job_type.name), []
        try:
            for start in range(0, len(requests), _BULK_MAX):
                of_trip = requests[start : start + _BULK_MAX]
                with _start_span(job_type, [envelope["traceparent"] for _, envelope in of_trip]):
                    jobs = await queue.addBulk(
                        [
                            {"name": job_type.name, "data": data, "opts": build_options(job_type, job)}
                            for job, data in of_trip
                        ]
                    )
                ids += [str(job.id) for job in jobs]
        except UNAVAILABLE_ERRORS as error:
            raise JobsUnavailable(f"{job_type.name}: {type(error).__name__}: {error}") from error
        return ids

    def _get_job_type(self, name: str) -> JobType:
        job_type = self._job_types.get(name)
        if job_type is None:
            raise LookupError(f"no job {name!r} is declared here; there are {', '.join(self._job_types) or 'none'}")
        return job_type
