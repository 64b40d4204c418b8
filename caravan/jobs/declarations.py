"""What a service declares of its jobs, and what a running job receives."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal, Protocol, TypedDict, Unpack
from zoneinfo import ZoneInfo, available_timezones

from bullmq.queue_keys import QueueKeys
from cronsim import CronSim, CronSimError

from caravan.clock import EPOCH


@cache
def _load_time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


@dataclass(frozen=True, slots=True)
class Cron:
    """`minute hour day month weekday`, read in a time zone by its IANA name: what runs at 9 in London does so in
    summer, too.

    Where the clocks change, a time of day comes once: one that is skipped at the first moment after, one that comes
    twice the first time. With `*` as its hour it comes every hour, so twice.
    """

    pattern: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        expected = "expected five fields: minute hour day month weekday, such as `30 9 * * mon-fri`"
        if len(self.pattern.split()) != 5:
            raise ValueError(f"{self.pattern!r} is no cron spec; {expected}")
        if self.zone not in _load_time_zones():
            raise ValueError(f"{self.zone!r} is no time zone; expected an IANA name such as `Europe/London`")
        try:
            self.compute_next_time(EPOCH)
        except CronSimError as error:
            raise ValueError(
                f"{self.pattern!r} is no cron spec, or names no time that ever comes ({str(error).lower()}); {expected}"
            ) from None
        except StopIteration:
            raise ValueError(f"{self.pattern!r} names no time that ever comes") from None

    def compute_next_time(self, moment: datetime) -> datetime:
        """The first time after a moment, in UTC."""
        times = CronSim(self.pattern, moment.astimezone(ZoneInfo(self.zone)))
        # Asked in the second of two equal hours, it names the time in the first, which is over.
        return next(found for time in times if (found := time.astimezone(UTC)) > moment)

    def __str__(self) -> str:
        return f"{self.pattern} {self.zone}"


@dataclass(frozen=True, slots=True)
class Interval:
    seconds: float

    def __str__(self) -> str:
        return f"every {self.seconds:g} s"


_CUSTOM_ID = re.compile(r"(?=.*[^0-9])[A-Za-z0-9_-]{1,200}")
_GENERATED_ID = re.compile(r"[0-9]{1,20}|repeat:[a-z.-]{1,100}:[0-9]{1,20}")
_RESERVED_NAMES = frozenset(QueueKeys().getKeys(""))
"""What BullMQ keeps beside the jobs of a queue, under names that look like ids."""


def is_custom_id(text: str) -> bool:
    """Whether a job may be given this id: numbers and colons are BullMQ's own, and so are the names of its keys."""
    return _CUSTOM_ID.fullmatch(text) is not None and text not in _RESERVED_NAMES


def is_job_id(text: str) -> bool:
    """Whether this can be a job's id in its queue: one of ours, a number, or a run of a schedule. Everything else may
    name another key of Redis.
    """
    return is_custom_id(text) or _GENERATED_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job to enqueue. While a job with the same `id` is in its queue, finished ones that are kept included, another
    one is not added.

    `priority`: 1 goes before 2; without one a job goes before all that have one.
    """

    data: Any = None
    id: str | None = None
    delay: timedelta = timedelta()
    priority: int = 0
    keep: Literal["always", "failed", "never"] = "always"
    """How long it stays in the list after its end, and its id with it."""


class ProgressReporter(Protocol):
    async def __call__(self, done: int, total: int | None = None) -> None: ...


@dataclass(slots=True)
class Job:
    """A job as its handler gets it. `attempt` counts from 1; `scheduled_at` is the time that a schedule meant."""

    id: str
    queue: str
    data: Any
    attempt: int
    scheduled_at: datetime | None
    report_progress: ProgressReporter
    """`await job.report_progress(done, total)`: the progress that `GET /v1/jobs` shows, sent at most once a second."""
    is_stopping: Callable[[], bool]
    """Whether the process stops: a long job ends where it can go on later."""


JobHandler = Callable[[Any, Job], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class JobType:
    """A kind of job: its queue, its handler, and the bounds of both."""

    name: str
    run: JobHandler
    attempts: int = 5
    backoff_seconds: float = 1.0
    """Before the second attempt; doubled for each further one."""
    concurrency: int = 1
    """Jobs at a time in one process."""
    global_concurrency: int | None = None
    """Jobs at a time in all processes together."""
    lease_seconds: float = 30.0
    """A job whose worker has died is given to another one after this, and the time of one check. Renewed while it
    runs.
    """
    seconds: float = 300.0
    """Longest run of one attempt."""
    debounce_seconds: float = 0.0
    """`enqueue_soon` waits so long for further equal jobs, and adds one for all of them."""
    keep_completed: int = 200
    keep_failed: int = 1000
    keep_days: float = 7.0
    schedule: Cron | Interval | None = None


class JobOptions(TypedDict, total=False):
    """The fields of `JobType` that a declaration may set."""

    attempts: int
    backoff_seconds: float
    concurrency: int
    global_concurrency: int | None
    lease_seconds: float
    seconds: float
    debounce_seconds: float
    keep_completed: int
    keep_failed: int
    keep_days: float
    schedule: Cron | Interval | None


@dataclass(slots=True)
class Jobs:
    """The jobs of a service: `jobs = Jobs("payments")`, then `@jobs.job("payments.capture-retry")` over `async def
    retry(context, job)`.
    """

    service: str
    job_types: dict[str, JobType] = field(default_factory=dict)

    def job(self, name: str, **options: Unpack[JobOptions]) -> Callable[[JobHandler], JobHandler]:
        """Declare a job type by the name of its queue, `<service>.<noun-verb>`."""
        if not re.fullmatch(rf"{self.service}\.[a-z]+(-[a-z]+)+", name):
            raise ValueError(f"{name!r}: a job of {self.service} is named {self.service}.<noun>-<verb>")
        if name in self.job_types:
            raise ValueError(f"{name} is declared twice")

        def register_handler(run: JobHandler) -> JobHandler:
            self.job_types[name] = JobType(name, run, **options)
            return run

        return register_handler
