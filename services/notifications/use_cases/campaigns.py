"""Campaigns: promotional mail to a segment, now or at its time, in chunks.

A run is a row, once per campaign and time. It writes its messages chunk by chunk, each in one unit of work with its own place among the users, so that however
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

from caravan.audit import audit
from caravan.clock import first_id, new_id, rfc3339
from caravan.database import UnitOfWork
from caravan.errors import Conflict, Invalid, NotFound, Reject
from caravan.jobs import Cron, Job, JobsAway, NewJob
from caravan.messages import Delivery
from caravan.telemetry import log
from services.identity.messages import UserRegistered, UserUpdated
from services.notifications import store
from services.notifications.model import DEFAULT, KINDS, Wanted, check
from services.notifications.schemas import CampaignRequest
from services.notifications.store.campaigns import Audience, Recipient
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.accepting import SEND_JOBS, as_row

CAMPAIGN_JOB = "notifications.campaign-send"
CHUNK = 500
MISSED_AFTER = timedelta(hours=1)
"""A run that could not start within this time is not sent late at night unasked: it is reported as missed."""
IDLE = timedelta(seconds=15)
"""A run that has not moved for so long has lost its job."""
MOST_MISSED = 100
SCHEDULED_SHOWN = 1000


async def know_users(work: UnitOfWork, deliveries: Sequence[Delivery[Any]]) -> None:
    """Keep whom campaigns can reach."""
    if deliveries:
        await store.campaigns.keep_recipients(work, [_recipient(delivery) for delivery in deliveries])


def _recipient(delivery: Delivery[UserRegistered | UserUpdated]) -> Recipient:
    user = delivery.message
    if isinstance(user, UserUpdated):
        version, disabled, verified = user.account_version, user.disabled, user.verified
    else:
        version, disabled, verified = 0, False, user.invited
    active = user.role == "customer" and verified and not disabled
    return Recipient(user.user_id, user.email, user.name, active, version, delivery.time, verified)


async def create(context: NotificationsContext, work: UnitOfWork, wanted: CampaignRequest, actor: str) -> dict[str, Any]:
    """Write a campaign; its first run starts at its time, or now."""
    now = context.clock()
    schedule = _schedule(wanted)
    _check_times(wanted, now)
    campaign: dict[str, Any] = {
        "id": new_id(),
        "name": wanted.name,
        "subject": wanted.subject,
        "text": wanted.text,
        "segment": wanted.segment.model_dump(mode="json"),
        "cron": wanted.cron,
        "time_zone": wanted.time_zone,
        "next_at": schedule.after(now) if schedule else wanted.send_at or now,
        "stopped": False,
        "created_by": actor,
        "created_at": now,
    }
    await store.campaigns.add(work, campaign)
    audit(work, "campaign.created", f"campaign:{campaign['id']}", name=wanted.name)
    _wake(context, work, campaign["id"], campaign["next_at"])
    return campaign


def _schedule(wanted: CampaignRequest) -> Cron | None:
    """Raises Invalid, naming the field."""
    try:
        Cron("0 0 * * *", wanted.time_zone)
    except ValueError as error:
        raise _refused("time_zone", str(error)) from None
    if wanted.cron is None:
        return None
    if wanted.send_at is not None:
        raise _refused("send_at", "give it for one run, or `cron` for many, not both")
    try:
        schedule = Cron(wanted.cron, wanted.time_zone)
    except ValueError as error:
        raise _refused("cron", str(error)) from None
    if not wanted.cron.split()[0].isdigit():
        raise _refused("cron", "at most once an hour: the minute must be a number")
    return schedule


def _refused(field: str, rule: str) -> Invalid:
    return Invalid(f"{field}: {rule}", errors=[{"field": field, "rule": rule}])


def _check_times(wanted: CampaignRequest, now: datetime) -> None:
    """No time that has passed, and no segment that nobody can ever be in. Raises Invalid, naming the field."""
    if wanted.send_at is not None and wanted.send_at < now:
        raise _refused("send_at", f"is past: it is {rfc3339(now)}; leave it out to send now")
    segment = wanted.segment
    after, before, within, without = (
        segment.registered_after,
        segment.registered_before,
        segment.ordered_within_days,
        segment.not_ordered_within_days,
    )
    if after and before and after >= before:
        raise _refused("segment.registered_after", "must be before registered_before: nobody registered after the one and before the other")
    if within is not None and without is not None and within <= without:
        raise _refused(
            "segment.ordered_within_days", f"must be more than not_ordered_within_days: who ordered in {within} days did in {without}"
        )
    if after and wanted.cron is None and after >= (wanted.send_at or now):
        raise _refused("segment.registered_after", "must be before the campaign is sent: nobody has registered after that")


def _wake(context: NotificationsContext, work: UnitOfWork, campaign_id: UUID, at: datetime) -> None:
    work.after_commit(partial(context.jobs.enqueue_soon, CAMPAIGN_JOB, _job(campaign_id, at, context.clock())))


def _job(campaign_id: UUID, at: datetime, now: datetime) -> NewJob:
    """The job of a run to come: one for each campaign and time."""
    name = f"{campaign_id}-{int(at.timestamp())}"
    return NewJob({"campaign_id": str(campaign_id)}, id=name, delay=max(at - now, timedelta()), kept="failed")


async def advance(context: NotificationsContext, job: Job) -> dict[str, int]:
    """The job: start what is due of a campaign, and write the messages of its runs."""
    campaign_id, written = UUID(job.data["campaign_id"]), 0
    await _start_due(context, campaign_id)
    for run_id in await store.campaigns.writing(context.database, campaign_id):
        while not job.stopping():
            moved = await _write_chunk(context, run_id)
            if moved is None:
                break
            written += moved[0]
            await job.report(moved[1], moved[2])
    return {"written": written}


async def _start_due(context: NotificationsContext, campaign_id: UUID) -> None:
    now = context.clock()
    async with context.database.work() as work:
        campaign = await store.campaigns.lock(work, campaign_id)
        if campaign is None or campaign["stopped"] or campaign["next_at"] is None or campaign["next_at"] > now:
            return
        schedule = Cron(campaign["cron"], campaign["time_zone"]) if campaign["cron"] else None
        due, following = occurrences(campaign["next_at"], schedule, now)
        for at, missed in due:
            recipients = 0 if missed else await store.campaigns.count(work, _audience(campaign, now))
            await store.campaigns.add_run(work, new_id(), campaign_id, at, "missed" if missed else "writing", recipients, now)
            if missed:
                log.warning("a run of a campaign was missed", campaign=str(campaign_id), due=at.isoformat())
        await store.campaigns.set_next(work, campaign_id, following)
        if following:
            _wake(context, work, campaign_id, following)


def occurrences(first: datetime, schedule: Cron | None, now: datetime) -> tuple[list[tuple[datetime, bool]], datetime | None]:
    """What is due by now, each with whether it was missed, and the time after it. Of several, only the last one is not too late."""
    due, following = [first], schedule.after(first) if schedule else None
    while schedule and following and following <= now:
        due.append(following)
        following = schedule.after(following)
    return [(at, at is not due[-1] or now - at > MISSED_AFTER) for at in due[-MOST_MISSED:]], following


def _audience(campaign: asyncpg.Record, moment: datetime) -> Audience:
    """The segment as it is meant at a moment: who comes later is for the next run."""
    segment = orjson.loads(campaign["segment"])

    def since(days: int | None) -> UUID | None:
        return None if days is None else first_id(moment - timedelta(days=days))

    after, before = segment["registered_after"], segment["registered_before"]
    return Audience(
        datetime.fromisoformat(after) if after else None,
        min(datetime.fromisoformat(before), moment) if before else moment,
        since(segment["ordered_within_days"]),
        since(segment["not_ordered_within_days"]),
    )


async def _write_chunk(context: NotificationsContext, run_id: UUID) -> tuple[int, int, int] | None:
    """Write the next messages of a run: how many, and how far it is out of how many. None when there is nothing to write (any more)."""
    async with context.database.work() as work:
        run = await store.campaigns.lock_run(work, run_id)
        if run is None:
            return None
        people = await store.campaigns.chunk(work, _audience(run, run["started_at"]), run["position"], CHUNK)
        preferences = await store.preferences(work, [person["user_id"] for person in people])
        rows = [as_row(wanted, preferences.get(wanted.user_id, DEFAULT), run_id) for wanted in _messages(run, people) if wanted.user_id]
        if rows:
            await store.add(work, rows, context.clock())
            work.after_commit(partial(context.jobs.enqueue_soon, SEND_JOBS["bulk"]))
        position = people[-1]["user_id"] if people else None
        await store.campaigns.move_run(work, run_id, position, len(people), context.clock(), complete=len(people) < CHUNK)
        return (len(people), run["written"] + len(people), run["recipients"]) if people else None


def _messages(run: asyncpg.Record, people: Sequence[asyncpg.Record]) -> Iterator[Wanted]:
    """A message to each of them; one who can't be written to holds up no other."""
    for person in people:
        about = f"campaign:{run['id']}:{person['user_id']}"
        values = {"campaign_id": str(run["campaign_id"]), "name": person["name"]}
        try:
            yield check(Wanted(about, KINDS["campaign"], person["user_id"], person["email"], values, priority="bulk"))
        except Reject as error:
            log.warning("left out of a campaign", about=about, why=str(error))


async def stop(context: NotificationsContext, campaign_id: UUID) -> None:
    """Write and send no more of it, until it is resumed. Raises NotFound, or Conflict for one that has nothing left to stop."""
    async with context.database.work() as work:
        campaign = await _locked(work, campaign_id)
        runs = await store.campaigns.runs(context.database, [campaign_id], 1)
        open_run = bool(runs) and (runs[0]["state"] == "writing" or runs[0]["pending"] > 0)
        if not campaign["stopped"] and campaign["next_at"] is None and not open_run:
            raise Conflict(f"campaign {campaign_id} has sent everything already")
        await store.campaigns.stop(work, campaign_id)
        audit(work, "campaign.stopped", f"campaign:{campaign_id}")


async def resume(context: NotificationsContext, campaign_id: UUID) -> None:
    """Go on where it was stopped; of a campaign without a cron spec also a missed run. Raises NotFound or Conflict."""
    now = context.clock()
    async with context.database.work() as work:
        campaign = await _locked(work, campaign_id)
        runs = await store.campaigns.runs(context.database, [campaign_id], 1)
        missed = campaign["cron"] is None and bool(runs) and runs[0]["state"] == "missed"
        if not campaign["stopped"] and not missed:
            raise Conflict(f"campaign {campaign_id} is not stopped")
        await store.campaigns.resume(work, campaign_id, now, missed=missed)
        audit(work, "campaign.resumed", f"campaign:{campaign_id}")
        again = NewJob({"campaign_id": str(campaign_id)}, kept="failed")
        work.after_commit(partial(context.jobs.enqueue_soon, CAMPAIGN_JOB, again))
        work.after_commit(partial(context.jobs.enqueue_soon, SEND_JOBS["bulk"]))


async def _locked(work: UnitOfWork, campaign_id: UUID) -> asyncpg.Record:
    campaign = await store.campaigns.lock(work, campaign_id)
    if campaign is None:
        raise NotFound(f"no campaign {campaign_id}; GET /v1/campaigns lists them")
    return campaign


async def sweep(context: NotificationsContext) -> bool:
    """Every run to come, and every one that stands still, has its job, also after Redis has forgotten them. Without Redis campaigns wait."""
    now = context.clock()
    jobs = [_job(campaign_id, at, now) for campaign_id, at in await store.campaigns.scheduled(context.database, SCHEDULED_SHOWN)]
    jobs += [_job(campaign_id, now, now) for campaign_id in await store.campaigns.unfinished(context.database, now, IDLE)]
    if jobs:
        with suppress(JobsAway):
            await context.jobs.enqueue(CAMPAIGN_JOB, *jobs)
    return False
