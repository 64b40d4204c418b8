"""The jobs that start a campaign's runs at their times."""

from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from caravan.database import UnitOfWork
from caravan.jobs import Cron, JobRequest, JobsUnavailable
from services.notifications.schemas import CampaignRequest
from services.notifications.store import campaigns
from services.notifications.store.campaigns import Campaign
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.campaigns.local_time import FIRST_ZONE

CAMPAIGN_JOB = "notifications.campaign-send"
MISSED_AFTER = timedelta(hours=1)
"""A run that could not start within this time is not sent late at night unasked: it is reported as missed."""
STALLED_AFTER = timedelta(seconds=15)
"""A run that has not moved for so long has lost its job."""
MAX_MISSED = 100
MAX_SCHEDULED = 1000


def get_schedule_zone(campaign: Campaign | CampaignRequest) -> str:
    """The zone in which a campaign's cron spec is read: in local time, where each time of day comes first."""
    return FIRST_ZONE if campaign.local_time else campaign.time_zone


def enqueue_run_job(context: NotificationsContext, uow: UnitOfWork, campaign_id: UUID, at: datetime) -> None:
    uow.run_after_commit(
        partial(context.jobs.enqueue_soon, CAMPAIGN_JOB, build_run_job(campaign_id, at, context.clock()))
    )


def build_run_job(campaign_id: UUID, at: datetime, now: datetime) -> JobRequest:
    """The job of a run to come: one for each campaign and time."""
    name = f"{campaign_id}-{int(at.timestamp())}"
    return JobRequest({"campaign_id": str(campaign_id)}, id=name, delay=max(at - now, timedelta()), keep="failed")


def compute_occurrences(
    first: datetime, schedule: Cron | None, now: datetime
) -> tuple[list[tuple[datetime, bool]], datetime | None]:
    """What is due by now, each with whether it was missed, and the time after it. Of several, only the last one is not
    too late.
    """
    due_times, next_at = [first], schedule.compute_next_time(first) if schedule else None
    while schedule and next_at and next_at <= now:
        due_times.append(next_at)
        next_at = schedule.compute_next_time(next_at)
    return [(at, at is not due_times[-1] or now - at > MISSED_AFTER) for at in due_times[-MAX_MISSED:]], next_at


async def enqueue_missing_jobs(context: NotificationsContext) -> bool:
    """Every run to come, and every one that stands still, has its job, also after Redis has forgotten them. Without
    Redis campaigns wait.
    """
    now = context.clock()
    jobs = [
        build_run_job(campaign_id, at, now)
        for campaign_id, at in await campaigns.find_scheduled(context.database, MAX_SCHEDULED)
    ]
    jobs += [
        build_run_job(campaign_id, now, now)
        for campaign_id in await campaigns.find_stalled(context.database, now, STALLED_AFTER)
    ]
    if jobs:
        with suppress(JobsUnavailable):
            await context.jobs.enqueue(CAMPAIGN_JOB, *jobs)
    return False
