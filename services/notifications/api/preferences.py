"""How users want to be reached, and the pages of the links in their mails."""

from functools import partial

from fastapi import APIRouter
from fastapi.responses import Response

from caravan.auth import Customer
from caravan.http import (
    IfMatch,
    Injected,
    check_if_match,
    document_headers,
    format_entity_tag,
    make_json_response,
)
from services.notifications.model import Preference
from services.notifications.schemas import (
    PreferenceChange,
    PreferenceView,
)
from services.notifications.use_cases import NotificationsContext, preferences

router = APIRouter(tags=["notifications"])


def _to_response(preference: Preference) -> Response:
    view = PreferenceView.model_validate(
        {
            "channel": preference.channel,
            "phone": preference.phone,
            "opt_out": sorted(preference.opt_out),
            "time_zone": preference.time_zone,
        }
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
