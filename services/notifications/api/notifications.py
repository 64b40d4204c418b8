"""Messages that were sent or failed, and what mail providers report of them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response

from caravan.auth import Caller, Customer, Staff
from caravan.errors import NotFound
from caravan.http import (
    CursorParameter,
    Injected,
    Limit,
    decode_cursor,
    make_json_response,
    make_page_response,
)
from services.notifications.messages import NotificationState
from services.notifications.schemas import (
    NotificationView,
)
from services.notifications.store import notifications
from services.notifications.use_cases import NotificationsContext, resend

router = APIRouter(tags=["notifications"])


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


@router.post("/v1/notifications/{notification_id}/resend", response_model=NotificationView)
async def resend_notification(
    context: Injected[NotificationsContext], notification_id: UUID, caller: Staff
) -> Response:
    """Send a message again that failed, came back or was lost: to the address that its user has now. 409 for one that
    waits, that its user opted out of, or whose text is not kept (links of the account).
    """
    record = await resend.resend_notification(context, notification_id)
    return make_json_response(NotificationView.model_validate(record._asdict()))


def _choose_user(caller: Caller, user_id: UUID | None, *, allow_all: bool) -> UUID | None:
    """Whose notifications are listed; None for all users'."""
    if user_id is not None and not caller.can_see(user_id):
        raise NotFound(f"no notifications of user {user_id} that you may see")
    if user_id is None and not (allow_all and caller.has_role("staff")):
        return caller.user_id
    return user_id
