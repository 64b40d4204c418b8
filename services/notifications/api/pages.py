"""The pages of the links in mails, for people without a login: stop these mails, and choose which to get.

Opening a page changes nothing, because programs that read mail follow links; only sending its form does. They need no
script.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Path
from fastapi.responses import Response
from markupsafe import Markup

from caravan.errors import NotFound
from caravan.http import (
    FREE_PARAMETERS,
    Injected,
    document_html_responses,
    render_html_page,
)
from services.notifications.model import CATEGORY_LABELS, Preference
from services.notifications.schemas import TIME_ZONES, TimeZoneOrNone
from services.notifications.use_cases import NotificationsContext, preferences

router = APIRouter(tags=["notifications"])

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


_PREFERENCE_PAGES = document_html_responses(s200="A page", s404="A page: no link of ours")
_CHECKBOX = Markup('<label><input type="checkbox" name="{category}" value="yes"{checked}>{label}</label>')
_OPTION = Markup("<option{selected}>{name}</option>")
_PREFERENCE_FORM = Markup(
    '<form method="post"><fieldset><legend>Send me</legend>{choices}</fieldset>'
    '<label>Your time zone, for the time of day of promotional mails<select name="time_zone">{zones}</select></label>'
    "<button>Save</button></form>"
)
_TICK = Annotated[Literal["", "yes"], Form(description="`yes` when it is ticked")]
_PREFERENCES_TITLE = "Which mails do you want?"
_SECURITY_NOTE = "Mails about the safety of your account always come."


@router.get(
    "/v1/notifications/preferences/{token}",
    responses=_PREFERENCE_PAGES,
    response_class=Response,
    openapi_extra={FREE_PARAMETERS: ""},
)
async def show_preferences_page(context: Injected[NotificationsContext], token: _TOKEN) -> Response:
    """The page of the link in all mails but security mails: which of them to get. It changes nothing by itself."""
    user_id = preferences.find_preference_owner(context, token)
    if user_id is None:
        return _render_unknown_link()
    preference = await preferences.get_preference(context, user_id)
    return render_html_page(_PREFERENCES_TITLE, _SECURITY_NOTE, _render_preference_form(preference))


@router.post("/v1/notifications/preferences/{token}", responses=_PREFERENCE_PAGES, response_class=Response)
async def submit_preferences_page(
    context: Injected[NotificationsContext],
    token: _TOKEN,
    transactional: _TICK = "",
    alerts: _TICK = "",
    promotions: _TICK = "",
    time_zone: Annotated[TimeZoneOrNone, Form(description="IANA name; empty: the shop's")] = "",
) -> Response:
    """What the page's form sends: all that is not ticked ends."""
    user_id = preferences.find_preference_owner(context, token)
    if user_id is None:
        return _render_unknown_link()
    ticks = {"transactional": transactional, "alerts": alerts, "promotions": promotions}
    changes = {"opt_out": [name for name, tick in ticks.items() if not tick], "time_zone": time_zone or None}
    preference = await preferences.change_preference(context, user_id, changes, lambda version: None)
    return render_html_page("Saved", _SECURITY_NOTE, _render_preference_form(preference))


def _render_preference_form(preference: Preference) -> Markup:
    choices = Markup("").join(
        _CHECKBOX.format(
            category=category,
            checked="" if category in preference.opt_out else Markup(" checked"),
            label=label.capitalize(),
        )
        for category, label in CATEGORY_LABELS.items()
    )
    zones = Markup("").join(
        _OPTION.format(selected=Markup(" selected") if name == preference.time_zone else "", name=name)
        for name in sorted(TIME_ZONES)
    )
    return _PREFERENCE_FORM.format(choices=choices, zones=Markup('<option value="">The shop\'s</option>') + zones)
