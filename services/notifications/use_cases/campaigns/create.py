"""Write a campaign: its times and its segment are checked here."""

from datetime import datetime

from caravan.audit import record_audit
from caravan.clock import format_rfc3339, new_id
from caravan.database import UnitOfWork
from caravan.errors import InvalidRequest
from caravan.jobs import Cron
from services.notifications.schemas import CampaignRequest
from services.notifications.store import campaigns
from services.notifications.store.campaigns import Campaign
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.campaigns.local_time import compute_local_start
from services.notifications.use_cases.campaigns.schedule import enqueue_run_job, get_schedule_zone


async def create_campaign(
    context: NotificationsContext, uow: UnitOfWork, request: CampaignRequest, actor: str
) -> Campaign:
    """Write a campaign; its first run starts at its time, or now."""
    now = context.clock()
    schedule = _parse_schedule(request)
    _check_times(request, now)
    first_run_at = schedule.compute_next_time(now) if schedule else _compute_start(request, now)
    campaign = Campaign(
        id=new_id(),
        name=request.name,
        subject=request.subject,
        text=request.text,
        segment=request.segment.model_dump_json(),
        cron=request.cron,
        time_zone=request.time_zone,
        next_at=first_run_at,
        stopped=False,
        created_by=actor,
        created_at=now,
        local_time=request.local_time,
        with_recommendations=request.with_recommendations,
    )
    await campaigns.insert_campaign(uow, campaign)
    record_audit(uow, "campaign.created", f"campaign:{campaign.id}", name=request.name)
    enqueue_run_job(context, uow, campaign.id, first_run_at)
    return campaign


def _parse_schedule(request: CampaignRequest) -> Cron | None:
    """Raises InvalidRequest, naming the field."""
    try:
        Cron("0 0 * * *", request.time_zone)
    except ValueError as error:
        raise _build_invalid("time_zone", str(error)) from None
    if request.cron is None:
        return None
    if request.send_at is not None:
        raise _build_invalid("send_at", "give it for one run, or `cron` for many, not both")
    try:
        schedule = Cron(request.cron, get_schedule_zone(request))
    except ValueError as error:
        raise _build_invalid("cron", str(error)) from None
    if not request.cron.split()[0].isdigit():
        raise _build_invalid("cron", "at most once an hour: the minute must be a number")
    return schedule


def _compute_start(request: CampaignRequest, now: datetime) -> datetime:
    """When a campaign without cron starts. Raises InvalidRequest when its local time has passed somewhere."""
    if not request.local_time:
        return request.send_at or now
    if request.send_at is None:
        raise _build_invalid("local_time", "needs `send_at` or `cron`: the time of day at which it should come")
    start = compute_local_start(request.send_at, request.time_zone)
    if start < now:
        earliest = request.send_at + (now - start)
        raise _build_invalid(
            "send_at",
            f"has passed where it is UTC+14; {format_rfc3339(earliest)} is the earliest for all",
        )
    return start


def _build_invalid(field: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {rule}", errors=[{"field": field, "rule": rule}])


def _check_times(request: CampaignRequest, now: datetime) -> None:
    """No time that has passed, and no segment that nobody can ever be in. Raises InvalidRequest, naming the field."""
    if request.send_at is not None and request.send_at < now:
        raise _build_invalid("send_at", f"is past: it is {format_rfc3339(now)}; leave it out to send now")
    segment = request.segment
    after, before, within, without = (
        segment.registered_after,
        segment.registered_before,
        segment.ordered_within_days,
        segment.not_ordered_within_days,
    )
    if after and before and after >= before:
        raise _build_invalid(
            "segment.registered_after",
            "must be before registered_before: nobody registered after the one and before the other",
        )
    if within is not None and without is not None and within <= without:
        raise _build_invalid(
            "segment.ordered_within_days",
            f"must be more than not_ordered_within_days: who ordered in {within} days did in {without}",
        )
    if after and request.cron is None and after >= (request.send_at or now):
        raise _build_invalid(
            "segment.registered_after", "must be before the campaign is sent: nobody has registered after that"
        )
