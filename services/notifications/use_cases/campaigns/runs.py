"""Start the runs of a campaign that are due, and write their messages."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import orjson

from caravan.clock import make_lowest_id, new_id
from caravan.errors import MessageRejected
from caravan.jobs import Cron, Job
from caravan.telemetry import log
from services.notifications.model import DEFAULT_PREFERENCE, KINDS, NotificationRequest, Preference, validate_request
from services.notifications.store import addresses, campaigns, notifications, preferences
from services.notifications.store.campaigns import Campaign, WritingRun
from services.notifications.store.notifications import NotificationRow
from services.notifications.store.recipients import Audience, CampaignRecipient, count_recipients, fetch_recipients
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.accept import SEND_JOBS, to_row
from services.notifications.use_cases.campaigns.local_time import compute_local_due, parse_quiet_hours
from services.notifications.use_cases.campaigns.schedule import compute_occurrences, enqueue_run_job, get_schedule_zone

CHUNK_SIZE = 500


async def run_campaign(context: NotificationsContext, job: Job) -> dict[str, int]:
    """The job: start what is due of a campaign, and write the messages of its runs."""
    campaign_id, written = UUID(job.data["campaign_id"]), 0
    await _start_due_runs(context, campaign_id)
    for run_id in await campaigns.find_writing_runs(context.database, campaign_id):
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
        campaign = await campaigns.lock_campaign(uow, campaign_id)
        if campaign is None or campaign.stopped or campaign.next_at is None or campaign.next_at > now:
            return
        schedule = Cron(campaign.cron, get_schedule_zone(campaign)) if campaign.cron else None
        due_runs, next_at = compute_occurrences(campaign.next_at, schedule, now)
        for at, is_missed in due_runs:
            recipients = 0 if is_missed else await count_recipients(uow, _build_audience(campaign, now))
            await campaigns.insert_run(
                uow, new_id(), campaign_id, at, "missed" if is_missed else "writing", recipients, now
            )
            if is_missed:
                log.warning("a run of a campaign was missed", campaign=str(campaign_id), due=at.isoformat())
        await campaigns.set_next_run(uow, campaign_id, next_at)
        if next_at:
            enqueue_run_job(context, uow, campaign_id, next_at)


def _build_audience(campaign: Campaign | WritingRun, moment: datetime) -> Audience:
    """The segment as it is meant at a moment: who comes later is for the next run."""
    segment = orjson.loads(campaign.segment)

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
        run = await campaigns.lock_run(uow, run_id)
        if run is None:
            return None
        recipients = await fetch_recipients(uow, _build_audience(run, run.started_at), run.position, CHUNK_SIZE)
        preferences_by_user = await preferences.find_preferences(uow, [recipient.user_id for recipient in recipients])
        undeliverable = await addresses.find_undeliverable(uow, [recipient.email for recipient in recipients])
        rows_by_due = _group_by_due(
            context,
            run,
            [
                (request, preferences_by_user.get(request.user_id, DEFAULT_PREFERENCE))
                for request in _build_requests(run, recipients, undeliverable)
                if request.user_id
            ],
        )
        for due_at, rows in sorted(rows_by_due.items()):
            await notifications.insert_notifications(uow, rows, context.clock(), due_at)
        uow.run_after_commit(partial(context.jobs.enqueue_soon, SEND_JOBS["bulk"]))
        position = recipients[-1].user_id if recipients else None
        await campaigns.advance_run(
            uow, run_id, position, len(recipients), context.clock(), is_complete=len(recipients) < CHUNK_SIZE
        )
        return (len(recipients), run.written + len(recipients), run.recipients) if recipients else None


def _group_by_due(
    context: NotificationsContext, run: WritingRun, requests: Sequence[tuple[NotificationRequest, Preference]]
) -> dict[datetime, list[NotificationRow]]:
    """The messages of a chunk by when they are due: now, or at their time where the recipient lives, and after the
    quiet hours there.
    """
    now, quiet = context.clock(), context.settings.quiet_hours
    rows: dict[datetime, list[NotificationRow]] = {}
    for request, preference in requests:
        zone = preference.time_zone or run.time_zone
        due_at = max(now, compute_local_due(run.due_at, zone)) if run.local_time else now
        if quiet:
            due_at = parse_quiet_hours(quiet).find_end(due_at, zone) or due_at
        rows.setdefault(due_at, []).append(to_row(request, preference, run.id))
    return rows


def _build_requests(
    run: WritingRun, recipients: Sequence[CampaignRecipient], undeliverable: set[str]
) -> Iterator[NotificationRequest]:
    """A message to each of them; one who can't be written to holds up no other."""
    for recipient in recipients:
        dedup_key = f"campaign:{run.id}:{recipient.user_id}"
        values = {"campaign_id": str(run.campaign_id), "name": recipient.name}
        try:
            yield validate_request(
                NotificationRequest(
                    dedup_key,
                    KINDS["campaign"],
                    recipient.user_id,
                    recipient.email,
                    values,
                    priority="bulk",
                    is_undeliverable=recipient.email in undeliverable,
                )
            )
        except MessageRejected as error:
            log.warning("left out of a campaign", dedup_key=dedup_key, reason=str(error))
