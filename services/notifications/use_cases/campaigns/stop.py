"""Stop a campaign, and resume it."""

from functools import partial
from uuid import UUID

from caravan.audit import record_audit
from caravan.database import UnitOfWork
from caravan.errors import Conflict, NotFound
from caravan.jobs import JobRequest
from services.notifications.store import campaigns
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.accept import SEND_JOBS
from services.notifications.use_cases.campaigns.schedule import CAMPAIGN_JOB


async def stop_campaign(context: NotificationsContext, campaign_id: UUID) -> None:
    """Write and send no more of it, until it is resumed. Raises NotFound, or Conflict for one that has nothing left to
    stop.
    """
    async with context.database.unit_of_work() as uow:
        campaign = await _lock_campaign(uow, campaign_id)
        runs = await campaigns.list_runs(context.database, [campaign_id], 1)
        is_run_open = bool(runs) and (runs[0]["state"] == "writing" or runs[0]["pending"] > 0)
        if not campaign.stopped and campaign.next_at is None and not is_run_open:
            raise Conflict(f"campaign {campaign_id} has sent everything already")
        await campaigns.stop_campaign(uow, campaign_id)
        record_audit(uow, "campaign.stopped", f"campaign:{campaign_id}")


async def resume_campaign(context: NotificationsContext, campaign_id: UUID) -> None:
    """Go on where it was stopped; of a campaign without a cron spec also a missed run. Raises NotFound or Conflict."""
    now = context.clock()
    async with context.database.unit_of_work() as uow:
        campaign = await _lock_campaign(uow, campaign_id)
        runs = await campaigns.list_runs(context.database, [campaign_id], 1)
        with_missed = campaign.cron is None and bool(runs) and runs[0]["state"] == "missed"
        if not campaign.stopped and not with_missed:
            raise Conflict(f"campaign {campaign_id} is not stopped")
        await campaigns.resume_campaign(uow, campaign_id, now, with_missed=with_missed)
        record_audit(uow, "campaign.resumed", f"campaign:{campaign_id}")
        job = JobRequest({"campaign_id": str(campaign_id)}, keep="failed")
        uow.run_after_commit(partial(context.jobs.enqueue_soon, CAMPAIGN_JOB, job))
        uow.run_after_commit(partial(context.jobs.enqueue_soon, SEND_JOBS["bulk"]))


async def _lock_campaign(uow: UnitOfWork, campaign_id: UUID) -> campaigns.Campaign:
    campaign = await campaigns.lock_campaign(uow, campaign_id)
    if campaign is None:
        raise NotFound(f"no campaign {campaign_id}; GET /v1/campaigns lists them")
    return campaign
