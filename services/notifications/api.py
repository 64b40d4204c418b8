"""The HTTP entry point of notifications: sent messages, users' preferences, and campaigns."""

from dataclasses import asdict
from functools import partial
from typing import Annotated
from uuid import UUID

import asyncpg
import orjson
from fastapi import APIRouter, Form, Path, Query
from fastapi.responses import Response
from markupsafe import Markup

from caravan.auth import Caller, Customer, Staff
from caravan.errors import NotFound
from caravan.http import (
    FREE_PARAMETERS,
    CursorParameter,
    IfMatch,
    Injected,
    Limit,
    check_if_match,
    decode_cursor,
    document_headers,
    document_html_responses,
    format_entity_tag,
    make_json_response,
    make_page_response,
    render_html_page,
)
from caravan.idempotency import OptionalIdempotency
from caravan.schemas import Page
from services.notifications.messages import NotificationState
from services.notifications.model import CATEGORY_LABELS, Preference
from services.notifications.schemas import (
    CampaignRequest,
    CampaignStatus,
    CampaignView,
    NotificationView,
    PreferenceChange,
    PreferenceView,
    RunView,
)
from services.notifications.store import campaigns, notifications
from services.notifications.use_cases import NotificationsContext, preferences
from services.notifications.use_cases.campaigns import create, stop

router = APIRouter(tags=["notifications"])
RUNS_SHOWN = 20


def _to_response(preference: Preference) -> Response:
    view = PreferenceView.model_validate(
        {"channel": preference.channel, "phone": preference.phone, "opt_out": sorted(preference.opt_out)}
    )
    return make_json_response(view, headers={"ETag": format_entity_tag(preference.version)})


@router.get("/v1/users/me/preferences", response_model=PreferenceView, responses=document_headers(200, "ETag"))
async def get_preferences(context: Injected[NotificationsContext], caller: Customer) -> Response:
    """How you want to be reached, and what you opted out of."""
    return _to_response(await preferences.get_preference(context, caller.user_id))


@router.patch("/v1/users/me/preferences", response_model=PreferenceView, responses=document_headers(200, "ETag"))
async def patch_preferences(
    context: Injected[NotificationsContext], caller: Customer, change: PreferenceChange, if_match: IfMatch = None
) -> Response:
    """Change how you want to be reached. Messages that wait already go the way that was chosen before; those of
    campaigns end with an opt-out.
    """
    changes = change.model_dump(exclude_unset=True)
    return _to_response(
        await preferences.change_preference(context, caller.user_id, changes, partial(check_if_match, if_match))
    )


@router.get("/v1/notifications")
async def list_notifications(
    context: Injected[NotificationsContext],
    caller: Customer,
    limit: Limit = 20,
    cursor: CursorParameter = None,
    state: Annotated[NotificationState | None, Query(description="only those in this state")] = None,
    order_id: Annotated[
        UUID | None, Query(description="only those about this order; staff see them whoever got them")
    ] = None,
    user_id: Annotated[UUID | None, Query(description="for staff: those of this user")] = None,
) -> Response:
    """What was sent to you, or is about to be, the newest first. Staff who name neither a user nor an order get their
    own, and with `state=failed` everybody's.
    """
    position = decode_cursor(cursor, UUID)
    is_staff = caller.has_role("staff")
    rows = await notifications.list_notifications(
        context.database,
        limit=limit + 1,
        before=position[0] if position else None,
        user_id=_choose_user(caller, user_id, allow_all=order_id is not None or state == "failed"),
        order_id=order_id,
        state=state,
    )
    return make_page_response(
        rows,
        limit,
        lambda row: NotificationView.model_validate({**row, "reason": row["reason"] if is_staff else None}),
        lambda row: (row["id"],),
    )


def _choose_user(caller: Caller, user_id: UUID | None, *, allow_all: bool) -> UUID | None:
    """Whose notifications are listed; None for all users'."""
    if user_id is not None and not caller.can_see(user_id):
        raise NotFound(f"no notifications of user {user_id} that you may see")
    if user_id is None and not (allow_all and caller.has_role("staff")):
        return caller.user_id
    return user_id


_TOKEN = Annotated[str, Path(max_length=100, description="from a mail")]
_UNSUBSCRIBED = document_html_responses(s200="A page", s404="A page: no link of ours")
_STOP_FORM = Markup(
    '<form method="post"><input type="hidden" name="{field}" value="1"><button>Stop these mails</button></form>'
)
_FROM_PAGE = "from_page"


@router.get(
    "/v1/notifications/unsubscribe/{token}",
    responses=_UNSUBSCRIBED,
    response_class=Response,
    openapi_extra={FREE_PARAMETERS: ""},
)
async def show_unsubscribe_page(context: Injected[NotificationsContext], token: _TOKEN) -> Response:
    """The page of the link in alerts and promotional mails: it asks, and changes nothing by itself."""
    category = preferences.find_category(context, token)
    if category is None:
        return _render_unknown_link()
    return render_html_page(
        f"Stop {CATEGORY_LABELS[category]}?",
        "Mails about your orders and your account still come.",
        _STOP_FORM.format(field=_FROM_PAGE),
    )


@router.post(
    "/v1/notifications/unsubscribe/{token}",
    status_code=204,
    responses={**_UNSUBSCRIBED, 204: {"description": "Unsubscribed (one click)"}},
    response_class=Response,
)
async def unsubscribe(
    context: Injected[NotificationsContext],
    token: _TOKEN,
    from_page: Annotated[str, Form(description="sent by the page")] = "",
) -> Response:
    """The address in the List-Unsubscribe header of alerts and promotional mails (RFC 8058): ends them without a login.
    Its page gets a page.
    """
    try:
        category = await preferences.unsubscribe(context, token)
    except NotFound:
        if from_page:
            return _render_unknown_link()
        raise
    if from_page:
        return render_html_page(
            "Done", f"You get no more {CATEGORY_LABELS[category]}. Your preferences bring them back."
        )
    return Response(status_code=204)


def _render_unknown_link() -> Response:
    return render_html_page(
        "This link is none of ours", "It may have been cut off; use the one in the newest mail.", status=404
    )


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
