"""The queries of campaigns, their runs, and their messages that wait."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from operator import lt
from typing import NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy import (
    ColumnElement,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as insert_or_skip

from caravan.database import Database, UnitOfWork
from caravan.database import tables as sql
from caravan.database.conditions import compare_if_given, is_among
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.notifications import tables


@dataclass(frozen=True, slots=True)
class Campaign:
    """`segment` is JSON."""

    id: UUID
    name: str
    subject: str
    text: str
    segment: str
    cron: str | None
    time_zone: str
    next_at: datetime | None
    stopped: bool
    created_by: str
    created_at: datetime
    local_time: bool = False
    with_recommendations: bool = False


@dataclass(frozen=True, slots=True)
class WritingRun:
    """A run that has messages to write, with its campaign's segment as JSON."""

    id: UUID
    campaign_id: UUID
    position: UUID | None
    recipients: int
    written: int
    started_at: datetime
    segment: str
    due_at: datetime
    local_time: bool
    time_zone: str


class CampaignContent(NamedTuple):
    """What a campaign's mails hold, and the zone of recipients who named none."""

    id: UUID
    subject: str
    text: str
    time_zone: str
    with_recommendations: bool


class ScheduledRun(NamedTuple):
    campaign_id: UUID
    at: datetime


_INFINITY: ColumnElement[datetime] = literal_column("'infinity'")
"""When the messages of a stopped campaign are due."""
_NOW = bindparam("now", type_=sql.TIMESTAMPTZ)
_CAMPAIGN_ID = bindparam("campaign_id", type_=sql.UUID)


_IS_CAMPAIGN = col(tables.Campaign.id) == _CAMPAIGN_ID
_SELECT_CAMPAIGN = select(*list_columns(tables.Campaign, Campaign))
_INSERT_CAMPAIGN = Query(insert(tables.Campaign))
_FIND_CAMPAIGN = Query(_SELECT_CAMPAIGN.where(_IS_CAMPAIGN), Campaign)
_LOCK_CAMPAIGN = Query(_SELECT_CAMPAIGN.where(_IS_CAMPAIGN).with_for_update(), Campaign)
_LIST_CAMPAIGNS = Query(
    _SELECT_CAMPAIGN.where(compare_if_given(col(tables.Campaign.id), "before", lt))
    .order_by(col(tables.Campaign.id).desc())
    .limit(bindparam("limit")),
    Campaign,
)
_FIND_CONTENTS = Query(
    select(*list_columns(tables.Campaign, CampaignContent)).where(is_among(col(tables.Campaign.id), "campaigns")),
    CampaignContent,
)
_FIND_SCHEDULED = Query(
    select(col(tables.Campaign.id), col(tables.Campaign.next_at))
    .where(col(tables.Campaign.next_at).is_not(None), ~col(tables.Campaign.stopped))
    .order_by(col(tables.Campaign.next_at))
    .limit(bindparam("limit")),
    ScheduledRun,
)
_SET_NEXT_RUN = Query(update(tables.Campaign).where(_IS_CAMPAIGN).values(next_at=bindparam("next_at")))
_SET_STOPPED = Query(update(tables.Campaign).where(_IS_CAMPAIGN).values(stopped=bindparam("stopped")))

_IS_RUN_OF_CAMPAIGN = col(tables.CampaignRun.campaign_id) == _CAMPAIGN_ID
_INSERT_RUN = Query(
    insert_or_skip(tables.CampaignRun)
    .values(
        id=bindparam("run_id"),
        campaign_id=_CAMPAIGN_ID,
        due_at=bindparam("due_at"),
        state=bindparam("state"),
        recipients=bindparam("recipients"),
        started_at=_NOW,
        moved_at=_NOW,
    )
    .on_conflict_do_nothing(constraint="campaign_run_once")
)
_FIND_WRITING_RUNS = Query(
    select(col(tables.CampaignRun.id))
    .where(_IS_RUN_OF_CAMPAIGN, col(tables.CampaignRun.state) == "writing")
    .order_by(col(tables.CampaignRun.due_at)),
    UUID,
)
_ADVANCE_RUN = Query(
    update(tables.CampaignRun)
    .where(col(tables.CampaignRun.id) == bindparam("run_id"))
    .values(
        position=func.coalesce(bindparam("position", type_=sql.UUID), col(tables.CampaignRun.position)),
        written=col(tables.CampaignRun.written) + bindparam("written"),
        moved_at=_NOW,
        state=case((bindparam("is_complete", type_=sql.BOOLEAN), "written"), else_=col(tables.CampaignRun.state)),
    )
)
_WRITE_MISSED_RUNS = Query(
    update(tables.CampaignRun)
    .where(_IS_RUN_OF_CAMPAIGN, col(tables.CampaignRun.state) == "missed")
    .values(state="writing", started_at=_NOW, moved_at=_NOW)
)
_FIND_STALLED = Query(
    select(col(tables.Campaign.id))
    .distinct()
    .join(tables.CampaignRun, col(tables.CampaignRun.campaign_id) == col(tables.Campaign.id))
    .where(col(tables.CampaignRun.state) == "writing", col(tables.CampaignRun.moved_at) <= bindparam("moved_before"))
    .where(~col(tables.Campaign.stopped)),
    UUID,
)

_IS_PENDING = col(tables.Notification.state) == "pending"
_IS_PENDING_OF_CAMPAIGN = (
    _IS_PENDING,
    col(tables.Notification.run_id).in_(select(col(tables.CampaignRun.id)).where(_IS_RUN_OF_CAMPAIGN)),
)
_HOLD_MESSAGES = Query(
    update(tables.Notification)
    .where(*_IS_PENDING_OF_CAMPAIGN, col(tables.Notification.due_at) != _INFINITY)
    .values(due_at=_INFINITY, held_due_at=col(tables.Notification.due_at))
)
_RELEASE_MESSAGES = Query(
    update(tables.Notification)
    .where(*_IS_PENDING_OF_CAMPAIGN, col(tables.Notification.due_at) == _INFINITY)
    .values(due_at=func.greatest(_NOW, col(tables.Notification.held_due_at)), held_due_at=null())
)
_SUPPRESS_PENDING = Query(
    update(tables.Notification)
    .where(col(tables.Notification.user_id) == bindparam("user_id"), _IS_PENDING)
    .where(col(tables.Notification.run_id).is_not(None))
    .values(state="suppressed", values=null())
)


async def insert_campaign(uow: UnitOfWork, campaign: Campaign) -> None:
    await _INSERT_CAMPAIGN.execute(uow, **asdict(campaign))


async def find_campaign(database: Database, campaign_id: UUID) -> Campaign | None:
    return await _FIND_CAMPAIGN.fetch_one(database, campaign_id=campaign_id)


async def lock_campaign(uow: UnitOfWork, campaign_id: UUID) -> Campaign | None:
    return await _LOCK_CAMPAIGN.fetch_one(uow, campaign_id=campaign_id)


async def list_campaigns(database: Database, before: UUID | None, limit: int) -> list[Campaign]:
    """The newest first."""
    return await _LIST_CAMPAIGNS.fetch_all(database, before=before, limit=limit)


async def list_runs(database: Database, campaigns: Sequence[UUID], runs_each: int) -> list[asyncpg.Record]:
    """The newest runs of each campaign, with what became of their messages."""
    return await database.fetch(
        "SELECT r.*, n.pending, n.sent, n.failed, n.suppressed FROM unnest($1::uuid[]) AS c (id)"
        " CROSS JOIN LATERAL (SELECT * FROM campaign_run WHERE campaign_id = c.id ORDER BY due_at DESC LIMIT $2) r"
        " CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE state = 'pending') AS pending,"
        " count(*) FILTER (WHERE state = 'sent') AS sent,"
        " count(*) FILTER (WHERE state = 'failed') AS failed,"
        " count(*) FILTER (WHERE state = 'suppressed') AS suppressed"
        " FROM notification WHERE run_id = r.id) n ORDER BY r.due_at DESC",
        list(campaigns),
        runs_each,
    )


async def insert_run(
    uow: UnitOfWork, run_id: UUID, campaign_id: UUID, due_at: datetime, state: str, recipients: int, now: datetime
) -> None:
    await _INSERT_RUN.execute(
        uow, run_id=run_id, campaign_id=campaign_id, due_at=due_at, state=state, recipients=recipients, now=now
    )


async def set_next_run(uow: UnitOfWork, campaign_id: UUID, next_at: datetime | None) -> None:
    await _SET_NEXT_RUN.execute(uow, campaign_id=campaign_id, next_at=next_at)


async def find_writing_runs(database: Database, campaign_id: UUID) -> list[UUID]:
    """The runs that have messages to write, the oldest first."""
    return await _FIND_WRITING_RUNS.fetch_values(database, campaign_id=campaign_id)


async def lock_run(uow: UnitOfWork, run_id: UUID) -> WritingRun | None:
    """None when it has been stopped or is complete. Whoever stops it waits for the chunk that is being written."""
    row = await uow.fetchrow(
        "SELECT r.id, r.campaign_id, r.position, r.recipients, r.written, r.started_at, c.segment, r.due_at,"
        " c.local_time, c.time_zone FROM campaign_run r"
        " JOIN campaign c ON c.id = r.campaign_id WHERE r.id = $1 AND r.state = 'writing' AND NOT c.stopped"
        " FOR UPDATE OF r FOR SHARE OF c",
        run_id,
    )
    return WritingRun(*row) if row else None


async def advance_run(
    uow: UnitOfWork, run_id: UUID, position: UUID | None, written: int, now: datetime, *, is_complete: bool
) -> None:
    await _ADVANCE_RUN.execute(uow, run_id=run_id, position=position, written=written, now=now, is_complete=is_complete)


async def stop_campaign(uow: UnitOfWork, campaign_id: UUID) -> None:
    """No further message of it is written or sent; those of a batch that is being sent are."""
    await _SET_STOPPED.execute(uow, campaign_id=campaign_id, stopped=True)
    await _HOLD_MESSAGES.execute(uow, campaign_id=campaign_id)


async def resume_campaign(uow: UnitOfWork, campaign_id: UUID, now: datetime, *, with_missed: bool) -> None:
    """Go on where it was stopped; `with_missed`: send the run that was missed, too."""
    await _SET_STOPPED.execute(uow, campaign_id=campaign_id, stopped=False)
    await _RELEASE_MESSAGES.execute(uow, campaign_id=campaign_id, now=now)
    if with_missed:
        await _WRITE_MISSED_RUNS.execute(uow, campaign_id=campaign_id, now=now)


async def suppress_pending(uow: UnitOfWork, user_id: UUID) -> None:
    """Whoever opts out gets no more of what still waits."""
    await _SUPPRESS_PENDING.execute(uow, user_id=user_id)


async def find_contents(database: Database, campaigns: Sequence[UUID]) -> dict[UUID, CampaignContent]:
    contents = await _FIND_CONTENTS.fetch_all(database, campaigns=list(campaigns))
    return {content.id: content for content in contents}


async def find_scheduled(database: Database, limit: int) -> list[ScheduledRun]:
    """The next runs of campaigns, the soonest first."""
    return await _FIND_SCHEDULED.fetch_all(database, limit=limit)


async def find_stalled(database: Database, now: datetime, idle: timedelta) -> list[UUID]:
    """Campaigns of which a run should write and has not for a while."""
    return await _FIND_STALLED.fetch_values(database, moved_before=now - idle)
