"""Campaigns: promotional mail to a segment, now or at its time, in chunks.

A run is a row, once per campaign and time. It writes its messages chunk by chunk, each in one unit of work with its own
place among the users, so that however
often it is stopped, killed or started twice, everybody gets one.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from caravan.audit import record_audit
from caravan.clock import format_rfc3339, make_lowest_id, new_id
from caravan.database import UnitOfWork
from caravan.errors import Conflict, InvalidRequest, MessageRejected, NotFound
from caravan.jobs import Cron, Job, JobRequest, JobsUnavailable
from caravan.messages import Delivery
from caravan.telemetry import log
from services.identity.messages import UserRegistered, UserUpdated
from services.notifications import store
from services.notifications.model import DEFAULT_PREFERENCE, KINDS, NotificationRequest, validate_request
from services.notifications.schemas import CampaignRequest
from services.notifications.store.campaigns import Audience, Recipient
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.accept import SEND_JOBS, to_row

CAMPAIGN_JOB = "notifications.campaign-send"
CHUNK_SIZE = 500
MISSED_AFTER = timedelta(hours=1)
"""A run that could not start within this time is not sent late at night unasked: it is reported as missed."""
STALLED_AFTER = timedelta(seconds=15)
"""A run that has not moved for so long has lost its job."""
MAX_MISSED = 100
MAX_SCHEDULED = 1000


async def update_recipients(uow: UnitOfWork, deliveries: Sequence[Delivery[UserRegistered | UserUpdated]]) -> None:
    """Keep whom campaigns can reach."""
    if deliveries:
        await store.campaigns.upsert_recipients(uow, [_to_recipient(delivery) for delivery in deliveries])


def _to_recipient(delivery: Delivery[UserRegistered | UserUpdated]) -> Recipient:
    user = delivery.message
    if isinstance(user, UserUpdated):
        version, disabled, verified = user.account_version, user.disabled, user.verified
    else:
        version, disabled, verified = 0, False, user.invited
    active = user.role == "customer" and verified and not disabled
    return Recipient(user.user_id, user.email, user.name, active, version, delivery.time, verified)


async def create_campaign(
    context: NotificationsContext, uow: UnitOfWork, request: CampaignRequest, actor: str
) -> dict[str, Any]:
    """Write a campaign; its first run starts at its time, or now."""
    now = context.clock()
    schedule = _parse_schedule(request)
    _check_times(request, now)
    campaign: dict[str, Any] = {
        "id": new_id(),
        "name": request.name,
        "subject": request.subject,
        "text": request.text,
        "segment": request.segment.model_dump(mode="json"),
        "cron": request.cron,
        "time_zone": request.time_zone,
        "next_at": schedule.compute_next_time(now) if schedule else request.send_at or now,
        "stopped": False,
        "created_by": actor,
        "created_at": now,
    }
    await store.campaigns.insert_campaign(uow, campaign)
    record_audit(uow, "campaign.created", f"campaign:{campaign['id']}", name=request.name)
    _enqueue_run_job(context, uow, campaign["id"], campaign["next_at"])
    return campaign


def _parse_schedule(request: CampaignRequest) -> Cron | None:
    """Raises Invalid, naming the field."""
    try:
        Cron("0 0 * * *", request.time_zone)
    except ValueError as error:
        raise _build_invalid("time_zone", str(error)) from None
    if request.cron is None:
        return None
    if request.send_at is not None:
        raise _build_invalid("send_at", "give it for one run, or `cron` for many, not both")
    try:
        schedule = Cron(request.cron, request.time_zone)
    except ValueError as error:
        raise _build_invalid("cron", str(error)) from None
    if not request.cron.split()[0].isdigit():
        raise _build_invalid("cron", "at most once an hour: the minute must be a number")
    return schedule


def _build_invalid(field: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {rule}", errors=[{"field": field, "rule": rule}])


def _check_times(request: CampaignRequest, now: datetime) -> None:
    """No time that has passed, and no segment that nobody can ever be in. Raises Invalid, naming the field."""
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


def _enqueue_run_job(context: NotificationsContext, uow: UnitOfWork, campaign_id: UUID, at: datetime) -> None:
    uow.run_after_commit(
        partial(context.jobs.enqueue_soon, CAMPAIGN_JOB, _build_run_job(campaign_id, at, context.clock()))
    )


def _build_run_job(campaign_id: UUID, at: datetime, now: datetime) -> JobRequest:
    """The job of a run to come: one for each campaign and time."""
    name = f"{campaign_id}-{int(at.timestamp())}"
    return JobRequest({"campaign_id": str(campaign_id)}, id=name, delay=max(at - now, timedelta()), keep="failed")


async def run_campaign(context: NotificationsContext, job: Job) -> dict[str, int]:
    """The job: start what is due of a campaign, and write the messages of its runs."""
    campaign_id, written = UUID(job.data["campaign_id"]), 0
    await _start_due_runs(context, campaign_id)
    for run_id in await store.campaigns.find_writing_runs(context.database, campaign_id):
        while not job.is_stopping():
            progress = await _write_chunk(context, run_id)
            if progress is None:
                break
            written += progress[0]
            await job.report_progress(progress[1], progress[2])
    return {"written": written}


async def _start_due_runs(context: NotificationsContext, campaign_id: UUID) -> None:
    now = context.clock()
    async with context.database.unit_of_work() as uow:
        campaign = await store.campaigns.lock_campaign(uow, campaign_id)
        if campaign is None or campaign["stopped"] or campaign["next_at"] is None or campaign["next_at"] > now:
            return
        schedule = Cron(campaign["cron"], campaign["time_zone"]) if campaign["cron"] else None
        due_runs, next_at = compute_occurrences(campaign["next_at"], schedule, now)
        for at, is_missed in due_runs:
            recipients = 0 if is_missed else await store.campaigns.count_recipients(uow, _build_audience(campaign, now))
            await store.campaigns.insert_run(
                uow, new_id(), campaign_id, at, "missed" if is_missed else "writing", recipients, now
            )
            if is_missed:
                log.warning("a run of a campaign was missed", campaign=str(campaign_id), due=at.isoformat())
        await store.campaigns.set_next_run(uow, campaign_id, next_at)
        if next_at:
            _enqueue_run_job(context, uow, campaign_id, next_at)


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


def _build_audience(campaign: asyncpg.Record, moment: datetime) -> Audience:
    """The segment as it is meant at a moment: who comes later is for the next run."""
    segment = orjson.loads(campaign["segment"])

    def to_first_id(days: int | None) -> UUID | None:
        return None if days is None else make_lowest_id(moment - timedelta(days=days))

    after, before = segment["registered_after"], segment["registered_before"]
    return Audience(
        datetime.fromisoformat(after) if after else None,
        min(datetime.fromisoformat(before), moment) if before else moment,
        to_first_id(segment["ordered_within_days"]),
        to_first_id(segment["not_ordered_within_days"]),
    )


async def _write_chunk(context: NotificationsContext, run_id: UUID) -> tuple[int, int, int] | None:
    """Write the next messages of a run: how many, and how far it is out of how many. None when there is nothing to
    write (any more).
    """
    async with context.database.unit_of_work() as uow:
        run = await store.campaigns.lock_run(uow, run_id)
        if run is None:
            return None
        recipients = await store.campaigns.fetch_recipients(
            uow, _build_audience(run, run["started_at"]), run["position"], CHUNK_SIZE
        )
        preferences = await store.find_preferences(uow, [recipient["user_id"] for recipient in recipients])
        rows = [
            to_row(request, preferences.get(request.user_id, DEFAULT_PREFERENCE), run_id)
            for request in _build_requests(run, recipients)
            if request.user_id
        ]
        if rows:
            await store.insert_notifications(uow, rows, context.clock())
            uow.run_after_commit(partial(context.jobs.enqueue_soon, SEND_JOBS["bulk"]))
        position = recipients[-1]["user_id"] if recipients else None
        await store.campaigns.advance_run(
            uow, run_id, position, len(recipients), context.clock(), is_complete=len(recipients) < CHUNK_SIZE
        )
        return (len(recipients), run["written"] + len(recipients), run["recipients"]) if recipients else None


def _build_requests(run: asyncpg.Record, recipients: Sequence[asyncpg.Record]) -> Iterator[NotificationRequest]:
    """A message to each of them; one who can't be written to holds up no other."""
    for recipient in recipients:
        dedup_key = f"campaign:{run['id']}:{recipient['user_id']}"
        values = {"campaign_id": str(run["campaign_id"]), "name": recipient["name"]}
        try:
            yield validate_request(
                NotificationRequest(
                    dedup_key, KINDS["campaign"], recipient["user_id"], recipient["email"], values, priority="bulk"
                )
            )
        except MessageRejected as error:
            log.warning("left out of a campaign", about=dedup_key, why=str(error))


async def stop_campaign(context: NotificationsContext, campaign_id: UUID) -> None:
    """Write and send no more of it, until it is resumed. Raises NotFound, or Conflict for one that has nothing left to
    stop.
    """
    async with context.database.unit_of_work() as uow:
        campaign = await _lock_campaign(uow, campaign_id)
        runs = await store.campaigns.list_runs(context.database, [campaign_id], 1)
        is_run_open = bool(runs) and (runs[0]["state"] == "writing" or runs[0]["pending"] > 0)
        if not campaign["stopped"] and campaign["next_at"] is None and not is_run_open:
            raise Conflict(f"campaign {campaign_id} has sent everything already")
        await store.campaigns.stop_campaign(uow, campaign_id)
        record_audit(uow, "campaign.stopped", f"campaign:{campaign_id}")


async def resume_campaign(context: NotificationsContext, campaign_id: UUID) -> None:
    """Go on where it was stopped; of a campaign without a cron spec also a missed run. Raises NotFound or Conflict."""
    now = context.clock()
    async with context.database.unit_of_work() as uow:
        campaign = await _lock_campaign(uow, campaign_id)
        runs = await store.campaigns.list_runs(context.database, [campaign_id], 1)
        with_missed = campaign["cron"] is None and bool(runs) and runs[0]["state"] == "missed"
        if not campaign["stopped"] and not with_missed:
            raise Conflict(f"campaign {campaign_id} is not stopped")
        await store.campaigns.resume_campaign(uow, campaign_id, now, with_missed=with_missed)
        record_audit(uow, "campaign.resumed", f"campaign:{campaign_id}")
        job = JobRequest({"campaign_id": str(campaign_id)}, keep="failed")
        uow.run_after_commit(partial(context.jobs.enqueue_soon, CAMPAIGN_JOB, job))
        uow.run_after_commit(partial(context.jobs.enqueue_soon, SEND_JOBS["bulk"]))


async def _lock_campaign(uow: UnitOfWork, campaign_id: UUID) -> asyncpg.Record:
    campaign = await store.campaigns.lock_campaign(uow, campaign_id)
    if campaign is None:
        raise NotFound(f"no campaign {campaign_id}; GET /v1/campaigns lists them")
    return campaign


async def enqueue_missing_jobs(context: NotificationsContext) -> bool:
    """Every run to come, and every one that stands still, has its job, also after Redis has forgotten them. Without
    Redis campaigns wait.
    """
    now = context.clock()
    jobs = [
        _build_run_job(campaign_id, at, now)
        for campaign_id, at in await store.campaigns.find_scheduled(context.database, MAX_SCHEDULED)
    ]
    jobs += [
        _build_run_job(campaign_id, now, now)
        for campaign_id in await store.campaigns.find_stalled(context.database, now, STALLED_AFTER)
    ]
    if jobs:
        with suppress(JobsUnavailable):
            await context.jobs.enqueue(CAMPAIGN_JOB, *jobs)
    return False
