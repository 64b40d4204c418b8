"""How users want to be reached, and the pages of the links in their mails."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Path
from fastapi.responses import Response
from markupsafe import Markup

from caravan.auth import Customer
from caravan.errors import NotFound
from caravan.http import (
    FREE_PARAMETERS,
    IfMatch,
    Injected,
    check_if_match,
    document_headers,
    document_html_responses,
    format_entity_tag,
    make_json_response,
    render_html_page,
)
from services.notifications.model import CATEGORY_LABELS, Preference
from services.notifications.schemas import (
    PreferenceChange,
    PreferenceView,
)
from services.notifications.use_cases import NotificationsContext, preferences

router = APIRouter(tags=["notifications"])


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
