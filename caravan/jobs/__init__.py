"""Background jobs on Redis with BullMQ, whose names stay in this package.

- A service declares its types of jobs (`declarations.py`), each with a queue and workers of its own; the runtime starts
  and drains them (`workers.py`).
- `context.jobs` enqueues (`enqueue.py`): at once, later, in bulk, by priority, once per id.
- `admin.py` lists and repairs what is in the queues, whichever process put it there.

Redis is never the truth. A job only does sooner what rows in a database already say is to be done, and a sweeper (a
`PeriodicTask`) does or enqueues what no job did: after a flush nothing is lost but time. A job may run twice, so its
effect is keyed by its row.
"""

from caravan.jobs.declarations import Cron, Interval, Job, JobOptions, JobRequest, Jobs, JobType
from caravan.jobs.enqueue import Enqueuer
from caravan.jobs.redis import UNAVAILABLE_ERRORS, JobStore, JobsUnavailable, ServerTooOld
from caravan.jobs.workers import Workers

__all__ = [
    "UNAVAILABLE_ERRORS",
    "Cron",
    "Enqueuer",
    "Interval",
    "Job",
    "JobOptions",
    "JobRequest",
    "JobStore",
    "JobType",
    "Jobs",
    "JobsUnavailable",
    "ServerTooOld",
    "Workers",
]
