"""Background jobs: critical, standard and campaign messages have a job each, so that none waits behind the others; and
sweepers.
"""

from datetime import timedelta
from functools import partial
from uuid import UUID

from caravan.jobs import Cron, Job, JobOptions, Jobs
from caravan.service import PeriodicTask
from services.notifications.metrics import WAITING
from services.notifications.store import notifications
from services.notifications.use_cases import NotificationsContext, send
from services.notifications.use_cases.campaigns import runs, schedule

OWNER_DAYS = 1
SEND_OPTIONS: JobOptions = {"attempts": 3, "lease_seconds": 10.0, "seconds": 180.0, "keep_completed": 100}
DEBOUNCED_SEND_OPTIONS: JobOptions = {**SEND_OPTIONS, "debounce_seconds": 0.1}

jobs = Jobs("notifications")


@jobs.job("notifications.critical-send", **SEND_OPTIONS)
async def send_critical(context: NotificationsContext, job: Job) -> dict[str, int]:
    """Send the critical messages that are due."""
    return await send.send_due(context, "critical", job)


@jobs.job("notifications.standard-send", **DEBOUNCED_SEND_OPTIONS)
async def send_standard(context: NotificationsContext, job: Job) -> dict[str, int]:
    """Send the other messages that are due; at most ten jobs a second, so that each carries more."""
    return await send.send_due(context, "standard", job)


@jobs.job("notifications.bulk-send", **DEBOUNCED_SEND_OPTIONS)
async def send_bulk(context: NotificationsContext, job: Job) -> dict[str, int]:
    """Send the messages of campaigns that are due."""
    return await send.send_due(context, "bulk", job)


@jobs.job(schedule.CAMPAIGN_JOB, lease_seconds=10.0, seconds=1800.0, attempts=10)
async def send_campaign(context: NotificationsContext, job: Job) -> dict[str, int]:
    """Start what is due of a campaign, and write the messages of its runs in chunks."""
    return await runs.run_campaign(context, job)


@jobs.job("notifications.history-prune", global_concurrency=1, schedule=Cron("17 3 * * *"))
async def prune_history(context: NotificationsContext, job: Job) -> dict[str, int]:
    """Delete finished notifications that are older than they are kept."""
    oldest = context.clock() - timedelta(days=context.settings.retention_days)
    before, deleted = UUID(int=int(oldest.timestamp() * 1000) << 80), 0
    while not job.is_stopping():
        batch_deleted = await notifications.prune_finished(context.database, before)
        deleted += batch_deleted
        await job.report_progress(deleted)
        if batch_deleted < notifications.PRUNE_BATCH:
            break
    return {"deleted": deleted}


async def measure_waiting(context: NotificationsContext) -> bool:
    """Count what waits, and find owners that became known too late."""
    counts = await notifications.count_waiting(context.database)
    for priority in send.BATCH_SIZES:
        WAITING.labels(priority).set(counts.get(priority, 0))
    await notifications.assign_missing_owners(context.database, context.clock() - timedelta(days=OWNER_DAYS))
    return False


SWEEPERS = (
    PeriodicTask("critical", 1.0, partial(send.enqueue_due, priority="critical")),
    PeriodicTask("standard", 1.0, partial(send.enqueue_due, priority="standard")),
    PeriodicTask("bulk", 2.0, partial(send.enqueue_due, priority="bulk")),
    PeriodicTask("campaigns", 10.0, schedule.enqueue_missing_jobs),
    PeriodicTask("measure-waiting", 10.0, measure_waiting),
)
