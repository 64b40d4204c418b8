"""Lists the jobs in all queues and repairs them: retry, promote, remove, pause, clean. It knows no service; workers
announce their queues in Redis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from caravan.clock import EPOCH
from caravan.dead_letters.causes import normalize_reason
from caravan.errors import BadRequest, Conflict, NotFound
from caravan.jobs.declarations import is_job_id
from caravan.jobs.redis import JobStore
from caravan.redaction import redact_text, redact_value
from caravan.telemetry import log, parse_trace_id

JobState = Literal["active", "waiting", "delayed", "failed", "completed"]
STATES: tuple[JobState, ...] = get_args(JobState)
CleanableState = Literal["waiting", "delayed", "failed", "completed"]
_LISTS_BY_STATE: dict[JobState, tuple[str, ...]] = {
    "active": ("active",),
    "waiting": ("waiting", "paused", "prioritized"),
    "delayed": ("delayed",),
    "failed": ("failed",),
    "completed": ("completed",),
}
"""BullMQ keeps what waits in three places."""
_STATE_BY_LIST: dict[str, JobState] = {name: state for state, names in _LISTS_BY_STATE.items() for name in names}
_CLEAN_BATCH = 1000

JobCursor = tuple[str, str, int]
"""Where a page begins: queue, BullMQ's list in it, and how many of it came before."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as it stands. `id` is `<queue>:<id in the queue>`; `attempts` are those made; `due_at` is when a delayed
    one is next tried.
    """

    id: str
    queue: str
    state: JobState
    payload: Any
    attempts: int
    attempts_allowed: int
    priority: int
    progress: Any
    result: Any
    reason: str | None
    traceparent: str | None
    request_id: str | None
    actor: str | None
    created_at: datetime
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def cause(self) -> str:
        """The reason without what differs from job to job: failures of one cause have one text."""
        return normalize_reason(self.reason or "")

    @property
    def trace_id(self) -> str | None:
        return parse_trace_id(self.traceparent)


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """A queue: how many jobs in which state, and when its schedule (if it has one) is next due."""

    name: str
    paused: bool
    counts: dict[JobState, int]
    schedule: str | None
    next_at: datetime | None
    attempts: int
    concurrency: int


async def list_queues(store: JobStore) -> list[QueueStatus]:
    statuses = []
    for name, declared_settings in (await store.fetch_queues()).items():
        queue = store.get_queue(name)
        counts = await queue.getJobCounts(*_STATE_BY_LIST)
        scheduler = await store.fetch_schedule(name) if declared_settings["schedule"] else None
        statuses.append(
            QueueStatus(
                name,
                bool(await queue.isPaused()),
                {
                    state: sum(counts.get(list_name, 0) for list_name in lists)
                    for state, lists in _LISTS_BY_STATE.items()
                },
                declared_settings["schedule"],
                _to_datetime(scheduler["next"]) if scheduler else None,
                declared_settings["attempts"],
                declared_settings["concurrency"],
            )
        )
    return statuses


async def list_jobs(
    store: JobStore,
    *,
    state: JobState | None = None,
    queue: str | None = None,
    after: JobCursor | None = None,
    limit: int = 20,
) -> tuple[list[JobStatus], JobCursor | None]:
    """Jobs by queue and state, the oldest first, and where the next page begins. What moves on meanwhile may be seen
    twice or not at all.

    Raises NotFound for a queue that no worker announced, BadRequest for a position that is not in the list.
    """
    names = [queue] if queue else list(await store.fetch_queues())
    if queue:
        await _check_queue(store, queue)
    lists = [(name, list_name) for name in names for list_name in (_LISTS_BY_STATE[state] if state else _STATE_BY_LIST)]
    if after and after[:2] not in lists:
        raise BadRequest("cursor is not one that this list gave out")
    statuses: list[JobStatus] = []
    offset = after[2] if after else 0
    for name, list_name in lists[lists.index(after[:2]) if after else 0 :]:
        missing_count = limit - len(statuses) + 1
        jobs = await store.get_queue(name).getJobs([list_name], offset, offset + missing_count - 1, True)
        if len(jobs) == missing_count:
            return statuses + [await _build_status(store, name, _STATE_BY_LIST[list_name], job) for job in jobs[:-1]], (
                name,
                list_name,
                offset + missing_count - 1,
            )
        statuses += [await _build_status(store, name, _STATE_BY_LIST[list_name], job) for job in jobs]
        offset = 0
    return statuses, None


async def get_job(store: JobStore, public_id: str) -> JobStatus:
    """One job. Raises NotFound."""
    name, job_id = await _parse_public_id(store, public_id)
    list_name = await store.get_queue(name).getJobState(
        job_id
    )  # before the job itself: a job that is reported finished has its result
    job = await store.get_queue(name).getJob(job_id)
    if job is None or list_name not in _STATE_BY_LIST:
        raise _build_not_found(public_id)
    return await _build_status(store, name, _STATE_BY_LIST[list_name], job)


async def list_failed_jobs(store: JobStore, *, queue: str | None = None, limit: int = 100) -> list[JobStatus]:
    """The failed jobs of a queue, or of all, the oldest first."""
    return (await list_jobs(store, state="failed", queue=queue, limit=limit))[0]


async def retry_jobs(store: JobStore, ids: Sequence[str]) -> int:
    """Give failed jobs all their attempts again; how many. Raises NotFound, or Conflict for one that has not failed;
    those before it are retried.
    """
    for public_id in ids:
        job = await _find_job(store, public_id)
        await _check_state(job, public_id, "failed", "only a failed job can be retried; a delayed one can be promoted")
        try:
            await job.retry("failed", {"resetAttemptsMade": True})
        except TypeError as error:
            raise Conflict(f"job {public_id} has moved on meanwhile: {error}") from error
        log.info("job retried", job=public_id)
    return len(ids)


async def promote_job(store: JobStore, public_id: str) -> JobStatus:
    """Let a delayed job run now. Raises NotFound or Conflict."""
    job = await _find_job(store, public_id)
    await _check_state(job, public_id, "delayed", "only a delayed job can be promoted")
    try:
        await job.promote()
    except TypeError as error:
        raise Conflict(f"job {public_id} has moved on meanwhile: {error}") from error
    log.info("job promoted", job=public_id)
    return await get_job(store, public_id)


async def remove_job(store: JobStore, public_id: str) -> None:
    """Take a job out of its queue. What it was about stays: its row is still in the database. Raises NotFound, or
    Conflict for one that runs.
    """
    job = await _find_job(store, public_id)
    if await job.getState() == "active":
        raise Conflict(f"job {public_id} is running; wait until it has ended")
    if await job.backend.remove(job.id, True) != 1:
        raise Conflict(f"job {public_id} belongs to the schedule of its queue, or runs: it can't be removed")
    log.info("job removed", job=public_id)


async def clean_queue(store: JobStore, queue: str, state: CleanableState, older_than: timedelta) -> int:
    """Remove the jobs of a queue that have been in a state for so long; how many. Raises NotFound."""
    await _check_queue(store, queue)
    removed_count = 0
    for list_name in _LISTS_BY_STATE[state]:
        while True:
            ids = await store.get_queue(queue).clean(
                round(older_than.total_seconds() * 1000), _CLEAN_BATCH, "wait" if list_name == "waiting" else list_name
            )
            removed_count += len(ids)
            if len(ids) < _CLEAN_BATCH:
                break
    log.info("jobs cleaned", queue=queue, state=state, jobs=removed_count)
    return removed_count


async def set_queue_paused(store: JobStore, queue: str, *, paused: bool) -> None:
    """Stop or go on taking jobs of a queue, in all processes; what runs ends. Raises NotFound."""
    await _check_queue(store, queue)
    await (store.get_queue(queue).pause() if paused else store.get_queue(queue).resume())
    log.info("queue paused" if paused else "queue resumed", queue=queue)


async def _check_queue(store: JobStore, name: str) -> None:
    queue_names = await store.fetch_queues()
    if name not in queue_names:
        raise NotFound(
            f"no queue {name!r}; there are {', '.join(queue_names) or 'none yet: no service that has jobs runs'}"
        )


async def _parse_public_id(store: JobStore, public_id: str) -> tuple[str, str]:
    name, _, job_id = public_id.partition(":")
    if not is_job_id(job_id) or name not in await store.fetch_queues():
        raise _build_not_found(public_id)
    return name, job_id


async def _find_job(store: JobStore, public_id: str) -> Any:
    name, job_id = await _parse_public_id(store, public_id)
    job = await store.get_queue(name).getJob(job_id)
    if job is None:
        raise _build_not_found(public_id)
    return job


def _build_not_found(public_id: str) -> NotFound:
    return NotFound(
        f"no job {public_id[:80]}: ids are `<queue>:<id>`; finished jobs are kept for a while only, `GET /v1/jobs` "
        "lists what there is"
    )


async def _check_state(job: Any, public_id: str, state: str, hint: str) -> None:
    actual_state = await job.getState()
    if actual_state != state:
        raise Conflict(f"job {public_id} is {_STATE_BY_LIST.get(actual_state, actual_state)}: {hint}")


async def _build_status(store: JobStore, queue: str, state: JobState, job: Any) -> JobStatus:
    job_data = job.data if isinstance(job.data, dict) else {}
    due_at = None
    if state == "delayed":
        # BullMQ keeps the time in the upper bits of the score, so that jobs of one millisecond stay in order.
        score = await store.client.zscore(store.get_queue(queue).keys["delayed"], job.id)
        due_at = _to_datetime(int(score) // 4096) if score else None
    return JobStatus(
        id=f"{queue}:{job.id}",
        queue=queue,
        state=state,
        payload=redact_value(job_data.get("data")),
        attempts=job.attemptsMade,
        attempts_allowed=job.opts.get("attempts") or 1,
        priority=job.priority,
        progress=redact_value(job.progress) or None,
        result=redact_value(job.returnvalue),
        reason=redact_text(job.failedReason) if job.failedReason and state != "completed" else None,
        traceparent=job_data.get("traceparent"),
        request_id=job_data.get("request_id"),
        actor=job_data.get("actor"),
        created_at=_to_datetime(job.timestamp) or EPOCH,
        due_at=due_at,
        started_at=_to_datetime(job.processedOn),
        finished_at=_to_datetime(job.finishedOn),
    )


def _to_datetime(milliseconds: int | None) -> datetime | None:
    return EPOCH + timedelta(milliseconds=milliseconds) if milliseconds else None
