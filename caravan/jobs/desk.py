"""The desk of the jobs: what is in the queues, and putting it right. It knows no service; the queues are those that processes have told of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from caravan.bus.failures.causes import normalised
from caravan.clock import EPOCH
from caravan.errors import BadRequest, Conflict, NotFound
from caravan.jobs.declare import is_job_id
from caravan.jobs.redis import JobStore
from caravan.redaction import redact, redact_text
from caravan.telemetry import log

State = Literal["active", "waiting", "delayed", "failed", "completed"]
STATES: tuple[State, ...] = get_args(State)
Cleanable = Literal["waiting", "delayed", "failed", "completed"]
LISTS: dict[State, tuple[str, ...]] = {
    "active": ("active",),
    "waiting": ("waiting", "paused", "prioritized"),
    "delayed": ("delayed",),
    "failed": ("failed",),
    "completed": ("completed",),
}
"""BullMQ keeps what waits in three places."""
BY_LIST: dict[str, State] = {name: state for state, names in LISTS.items() for name in names}
CLEANED_AT_ONCE = 1000

Position = tuple[str, str, int]
"""Where a page begins: queue, BullMQ's list in it, and how many of it came before."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A job as it stands. `id` is `<queue>:<id in the queue>`; `attempts` are those made; `due_at` is when a delayed one is next tried."""

    id: str
    queue: str
    state: State
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
        return normalised(self.reason or "")

    @property
    def trace_id(self) -> str | None:
        return self.traceparent[3:35] if self.traceparent else None


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A queue: how many jobs in which state, and when its schedule (if it has one) is next due."""

    name: str
    paused: bool
    counts: dict[State, int]
    schedule: str | None
    next_at: datetime | None
    attempts: int
    concurrency: int


async def queues(store: JobStore) -> list[QueueEntry]:
    found = []
    for name, said in (await store.queues()).items():
        queue = store.queue(name)
        counts = await queue.getJobCounts(*BY_LIST)
        scheduler = await store.schedule(name) if said["schedule"] else None
        found.append(
            QueueEntry(
                name,
                bool(await queue.isPaused()),
                {state: sum(counts.get(place, 0) for place in places) for state, places in LISTS.items()},
                said["schedule"],
                _moment(scheduler["next"]) if scheduler else None,
                said["attempts"],
                said["concurrency"],
            )
        )
    return found


async def page(
    store: JobStore, *, state: State | None = None, queue: str | None = None, after: Position | None = None, limit: int = 20
) -> tuple[list[Entry], Position | None]:
    """Jobs by queue and state, the oldest first, and where the next page begins. What moves on meanwhile may be seen twice or not at all.

    Raises NotFound for a queue that nobody has told of, BadRequest for a position that is not in the list.
    """
    names = [queue] if queue else list(await store.queues())
    if queue:
        await _known(store, queue)
    places = [(name, place) for name in names for place in (LISTS[state] if state else BY_LIST)]
    if after and after[:2] not in places:
        raise BadRequest("cursor is not one that this list gave out")
    found: list[Entry] = []
    skipped = after[2] if after else 0
    for name, place in places[places.index(after[:2]) if after else 0 :]:
        wanted = limit - len(found) + 1
        jobs = await store.queue(name).getJobs([place], skipped, skipped + wanted - 1, True)
        if len(jobs) == wanted:
            return found + [await _entry(store, name, BY_LIST[place], job) for job in jobs[:-1]], (name, place, skipped + wanted - 1)
        found += [await _entry(store, name, BY_LIST[place], job) for job in jobs]
        skipped = 0
    return found, None


async def show(store: JobStore, public_id: str) -> Entry:
    """One job. Raises NotFound."""
    name, job_id = await _known_queue(store, public_id)
    place = await store.queue(name).getJobState(job_id)  # before the job itself: what is said to be finished has its result
    job = await store.queue(name).getJob(job_id)
    if job is None or place not in BY_LIST:
        raise _gone(public_id)
    return await _entry(store, name, BY_LIST[place], job)


async def failed(store: JobStore, *, queue: str | None = None, limit: int = 100) -> list[Entry]:
    """The failed jobs of a queue, or of all, the oldest first."""
    return (await page(store, state="failed", queue=queue, limit=limit))[0]


async def retry(store: JobStore, ids: Sequence[str]) -> int:
    """Give failed jobs all their attempts again; how many. Raises NotFound, or Conflict for one that has not failed; those before it are retried."""
    for public_id in ids:
        job = await _find(store, public_id)
        await _expect(job, public_id, "failed", "only a failed job can be retried; a delayed one can be promoted")
        try:
            await job.retry("failed", {"resetAttemptsMade": True})
        except TypeError as error:
            raise Conflict(f"job {public_id} has moved on meanwhile: {error}") from error
        log.info("job retried", job=public_id)
    return len(ids)


async def promote(store: JobStore, public_id: str) -> Entry:
    """Let a delayed job run now. Raises NotFound or Conflict."""
    job = await _find(store, public_id)
    await _expect(job, public_id, "delayed", "only a delayed job can be promoted")
    try:
        await job.promote()
    except TypeError as error:
        raise Conflict(f"job {public_id} has moved on meanwhile: {error}") from error
    log.info("job promoted", job=public_id)
    return await show(store, public_id)


async def remove(store: JobStore, public_id: str) -> None:
    """Take a job out of its queue. What it was about stays: its row is still in the database. Raises NotFound, or Conflict for one that runs."""
    job = await _find(store, public_id)
    if await job.getState() == "active":
        raise Conflict(f"job {public_id} is running; wait until it has ended")
    if await job.backend.remove(job.id, True) != 1:
        raise Conflict(f"job {public_id} belongs to the schedule of its queue, or runs: it can't be removed")
    log.info("job removed", job=public_id)


async def clean(store: JobStore, queue: str, state: Cleanable, older_than: timedelta) -> int:
    """Remove the jobs of a queue that have been in a state for so long; how many. Raises NotFound."""
    await _known(store, queue)
    removed = 0
    for place in LISTS[state]:
        while True:
            ids = await store.queue(queue).clean(
                round(older_than.total_seconds() * 1000), CLEANED_AT_ONCE, "wait" if place == "waiting" else place
            )
            removed += len(ids)
            if len(ids) < CLEANED_AT_ONCE:
                break
    log.info("jobs cleaned", queue=queue, state=state, jobs=removed)
    return removed


async def pause(store: JobStore, queue: str, *, paused: bool) -> None:
    """Stop or go on taking jobs of a queue, in all processes; what runs ends. Raises NotFound."""
    await _known(store, queue)
    await (store.queue(queue).pause() if paused else store.queue(queue).resume())
    log.info("queue paused" if paused else "queue resumed", queue=queue)


async def _known(store: JobStore, name: str) -> None:
    known = await store.queues()
    if name not in known:
        raise NotFound(f"no queue {name!r}; there are {', '.join(known) or 'none yet: no service that has jobs runs'}")


async def _known_queue(store: JobStore, public_id: str) -> tuple[str, str]:
    name, _, job_id = public_id.partition(":")
    if not is_job_id(job_id) or name not in await store.queues():
        raise _gone(public_id)
    return name, job_id


async def _find(store: JobStore, public_id: str) -> Any:
    name, job_id = await _known_queue(store, public_id)
    job = await store.queue(name).getJob(job_id)
    if job is None:
        raise _gone(public_id)
    return job


def _gone(public_id: str) -> NotFound:
    return NotFound(
        f"no job {public_id[:80]}: ids are `<queue>:<id>`; finished jobs are kept for a while only, `GET /v1/jobs` lists what there is"
    )


async def _expect(job: Any, public_id: str, state: str, otherwise: str) -> None:
    found = await job.getState()
    if found != state:
        raise Conflict(f"job {public_id} is {BY_LIST.get(found, found)}: {otherwise}")


async def _entry(store: JobStore, queue: str, state: State, job: Any) -> Entry:
    told = job.data if isinstance(job.data, dict) else {}
    due = None
    if state == "delayed":
        # BullMQ keeps the time in the upper bits of the score, so that jobs of one millisecond stay in order.
        score = await store.client.zscore(store.queue(queue).keys["delayed"], job.id)
        due = _moment(int(score) // 4096) if score else None
    return Entry(
        id=f"{queue}:{job.id}",
        queue=queue,
        state=state,
        payload=redact(told.get("data")),
        attempts=job.attemptsMade,
        attempts_allowed=job.opts.get("attempts") or 1,
        priority=job.priority,
        progress=redact(job.progress) or None,
        result=redact(job.returnvalue),
        reason=redact_text(job.failedReason) if job.failedReason and state != "completed" else None,
        traceparent=told.get("traceparent"),
        request_id=told.get("request_id"),
        actor=told.get("actor"),
        created_at=_moment(job.timestamp) or EPOCH,
        due_at=due,
        started_at=_moment(job.processedOn),
        finished_at=_moment(job.finishedOn),
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return EPOCH + timedelta(milliseconds=milliseconds) if milliseconds else None
