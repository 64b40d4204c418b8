"""Campaigns: promotional mail to a segment of the customers."""

from dataclasses import asdict
from uuid import UUID

import asyncpg
import orjson
from fastapi import APIRouter
from fastapi.responses import Response

from caravan.auth import Staff
from caravan.errors import NotFound
from caravan.http import (
    CursorParameter,
    Injected,
    Limit,
    decode_cursor,
    document_headers,
    make_json_response,
    make_page_response,
)
from caravan.idempotency import OptionalIdempotency
from caravan.schemas import Page
from services.notifications.schemas import (
    CampaignRequest,
    CampaignStatus,
    CampaignView,
    RunView,
)
from services.notifications.store import campaigns
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.campaigns import create, stop

router = APIRouter(tags=["notifications"])
RUNS_SHOWN = 20


@router.post("/v1/campaigns", status_code=201, response_model=CampaignView, responses=document_headers(201, "Location"))
async def post_campaign(
    context: Injected[NotificationsContext],
    body: CampaignRequest,
    caller: Staff,
    idempotent_request: OptionalIdempotency,
) -> Response:
    """Send a promotional mail to a segment of the customers: now, at a time, or by a cron spec in a time zone. Who
    opted out of promotions gets none.
    """

    async def create_campaign() -> Response:
        async with context.database.unit_of_work() as uow:
            campaign = await create.create_campaign(context, uow, body, caller.audit_name)
            view = _to_campaign_view(campaign, [])
            return idempotent_request.store(
                uow, 201, view.model_dump_json().encode(), {"Location": f"/v1/campaigns/{campaign.id}"}
            )

    return await idempotent_request.execute(context.database, create_campaign)


@router.get("/v1/campaigns", response_model=Page[CampaignView])
async def list_campaigns(
    context: Injected[NotificationsContext], caller: Staff, limit: Limit = 20, cursor: CursorParameter = None
) -> Response:
    """The newest first, each with its last runs."""
    database = context.database
    before = decode_cursor(cursor, UUID)
    rows = await campaigns.list_campaigns(database, before[0] if before else None, limit + 1)
    runs = await campaigns.list_runs(database, [campaign.id for campaign in rows[:limit]], RUNS_SHOWN)
    return make_page_response(
        rows,
        limit,
        lambda campaign: _to_campaign_view(campaign, [run for run in runs if run["campaign_id"] == campaign.id]),
        lambda campaign: (campaign.id,),
    )


@router.get("/v1/campaigns/{campaign_id}", response_model=CampaignView)
async def get_campaign(context: Injected[NotificationsContext], campaign_id: UUID, caller: Staff) -> Response:
    """A campaign and how far its runs are."""
    return await _build_campaign_response(context, campaign_id)


@router.post("/v1/campaigns/{campaign_id}/stop", response_model=CampaignView)
async def stop_campaign(context: Injected[NotificationsContext], campaign_id: UUID, caller: Staff) -> Response:
    """Send no more of it, until it is resumed; what a mail server already has goes out. 409 when everything is sent."""
    await stop.stop_campaign(context, campaign_id)
    return await _build_campaign_response(context, campaign_id)


@router.post("/v1/campaigns/{campaign_id}/resume", response_model=CampaignView)
async def resume_campaign(context: Injected[NotificationsContext], campaign_id: UUID, caller: Staff) -> Response:
    """Go on where it was stopped: nobody gets it twice. Sends a missed run of a campaign without cron. 409 when there
    is nothing to resume.
    """
    await stop.resume_campaign(context, campaign_id)
    return await _build_campaign_response(context, campaign_id)


async def _build_campaign_response(context: NotificationsContext, campaign_id: UUID) -> Response:
    database = context.database
    campaign = await campaigns.find_campaign(database, campaign_id)
    if campaign is None:
        raise NotFound(f"no campaign {campaign_id}; GET /v1/campaigns lists them")
    return make_json_response(
        _to_campaign_view(campaign, await campaigns.list_runs(database, [campaign_id], RUNS_SHOWN))
    )


def _to_campaign_view(campaign: campaigns.Campaign, runs: list[asyncpg.Record]) -> CampaignView:
    run_views = [_to_run_view(run, stopped=campaign.stopped) for run in runs]
    status: CampaignStatus = "done"
    if campaign.stopped:
        status = "stopped"
    elif any(run.status in ("writing", "sending") for run in run_views):
        status = "running"
    elif campaign.next_at is not None:
        status = "scheduled"
    return CampaignView.model_validate(
        {
            **asdict(campaign),
            "segment": orjson.loads(campaign.segment),
            "status": status,
            "next_run_at": campaign.next_at,
            "runs": run_views,
        }
    )


def _to_run_view(run: asyncpg.Record, *, stopped: bool) -> RunView:
    status = run["state"] if run["state"] != "written" else "sending" if run["pending"] else "done"
    return RunView.model_validate(
        {**run, "status": "stopped" if stopped and status in ("writing", "sending") else status}
    )
