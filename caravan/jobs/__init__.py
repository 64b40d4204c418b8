"""Background jobs on Redis with BullMQ, whose names and habits stay in this folder.

- A service declares its kinds of jobs (`declare`), each with a queue and workers of its own; the runtime starts and
  drains them (`work`).
- `context.jobs` enqueues (`enqueue`): at once, later, in bulk, by priority, once per id.
- The desk lists and repairs what is in the queues (`desk`), whichever process put it there.

Redis is never truth. A job only does sooner what rows in a database already say is to be done, and a sweeper (a
`Periodic`) does or enqueues what no job did:
after a flush nothing is lost but time. A job may run twice, so its effect is keyed by its row.
"""

from caravan.jobs.declarations import Cron, Interval, Job, JobRequest, Jobs, JobType
from caravan.jobs.enqueue import Enqueuer
from caravan.jobs.redis import UNAVAILABLE_ERRORS, JobStore, JobsUnavailable
from caravan.jobs.worker import Workers

__all__ = [
    "UNAVAILABLE_ERRORS",
    "Cron",
    "Enqueuer",
    "Interval",
    "Job",
    "JobRequest",
    "JobStore",
    "JobType",
    "Jobs",
    "JobsUnavailable",
    "Workers",
]
