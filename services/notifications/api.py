"""The HTTP door: what was sent, and how a user wants to be reached."""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from caravan.auth import Caller, Customer
from caravan.errors import NotFound
from caravan.http import CursorParameter, Limit, Page, check_if_match, decode_cursor, encode_cursor, entity_tag, json_response
from services.notifications import store
from services.notifications.model import Preference
from services.notifications.schemas import NotificationView, PreferenceChange, PreferenceView, StateName
from services.notifications.use_cases import preferences

router = APIRouter(tags=["notifications"])


def _answer(preference: Preference) -> Response:
    view = PreferenceView.model_validate({"channel": preference.channel, "phone": preference.phone, "opt_out": sorted(preference.opt_out)})
    return json_response(view, headers={"ETag": entity_tag(preference.version)})


@router.get("/v1/users/me/preferences", response_model=PreferenceView)
async def get_preferences(request: Request, caller: Customer) -> Response:
    """How you want to be reached, and what you opted out of."""
    return _answer(await preferences.read_preference(request.app.state.context, caller.user_id))


@router.patch("/v1/users/me/preferences", response_model=PreferenceView)
async def patch_preferences(request: Request, caller: Customer, change: PreferenceChange) -> Response:
    """Change how you want to be reached. Messages that wait already go the way that was chosen before."""
    changes = change.model_dump(exclude_unset=True)
    return _answer(
        await preferences.change_preference(request.app.state.context, caller.user_id, changes, partial(check_if_match, request))
    )


@router.get("/v1/notifications")
async def list_notifications(
    request: Request,
    caller: Customer,
    limit: Limit = 20,
    cursor: CursorParameter = None,
    state: Annotated[StateName | None, Query(description="only those in this state")] = None,
    order_id: Annotated[UUID | None, Query(description="only those about this order; staff see them whoever got them")] = None,
    user_id: Annotated[UUID | None, Query(description="for staff: those of this user")] = None,
) -> Page[NotificationView]:
    """What was sent to you, or is about to be, the newest first. Staff who name neither a user nor an order get their own, and with `state=failed` everybody's."""
    position = decode_cursor(cursor, UUID)
    staff = caller.at_least("staff")
    rows = await store.page(
        request.app.state.context.database,
        limit=limit + 1,
        before=position[0] if position else None,
        user_id=_whose(caller, user_id, everybodys=order_id is not None or state == "failed"),
        order_id=order_id,
        state=state,
    )
    items = [NotificationView.model_validate({**row, "reason": row["reason"] if staff else None}) for row in rows[:limit]]
    return Page(items=items, next_cursor=encode_cursor(str(items[-1].id)) if len(rows) > limit else None)


def _whose(caller: Caller, user_id: UUID | None, *, everybodys: bool) -> UUID | None:
    """Whose notifications are listed; None for all users'."""
    if user_id is not None and not caller.may_see(user_id):
        raise NotFound(f"no notifications of user {user_id} that you may see")
    if user_id is None and not (everybodys and caller.at_least("staff")):
        return caller.user_id
    return user_id


@router.post("/v1/notifications/unsubscribe/{token}", status_code=204)
async def unsubscribe(request: Request, token: Annotated[str, Path(max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]) -> Response:
    """The address in the List-Unsubscribe header of alerts (RFC 8058): ends them without a login."""
    await preferences.unsubscribe(request.app.state.context, token)
    return Response(status_code=204)
