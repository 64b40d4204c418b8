"""Routes of an order's history: its events as a list and as a stream, and the order at an earlier version or time."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header
from fastapi.responses import Response

from caravan.auth import Caller, Customer
from caravan.errors import NotFound
from caravan.events import RecordedEvent
from caravan.http import EVENT_STREAM_TYPE, EventStream, Injected, make_json_response
from services.orders import model
from services.orders.api.documents import build_document_from_order, build_history_entries
from services.orders.messages import OrderCreated
from services.orders.schemas import OrderDocument, OrderHistory
from services.orders.store import streams
from services.orders.use_cases import OrdersContext

router = APIRouter(tags=["orders"])


async def _load_visible_events(
    context: OrdersContext, caller: Caller, order_id: UUID, **limits: Any
) -> list[RecordedEvent]:
    """The events of an order that the caller may see. NotFound otherwise, also when there were none yet."""
    recorded_events = await streams.load_events(context.database, order_id, **limits)
    if not recorded_events:
        raise NotFound(f"no order {order_id}" + (" at that time" if limits else ""))
    created = recorded_events[0].event
    assert isinstance(created, OrderCreated)
    if not caller.can_see(created.user_id):
        raise NotFound(f"no order {order_id}")
    return recorded_events


async def load_past_order(
    context: OrdersContext, caller: Caller, order_id: UUID, version: int | None, at: datetime | None
) -> OrderDocument:
    recorded_events = await _load_visible_events(context, caller, order_id, version=version, until=at)
    order = model.fold_events((item.event, item.time) for item in recorded_events)
    if version is not None and order.version < version:
        raise NotFound(
            f"order {order_id} has no version {version}{' at that time' if at else ''}: it is at {order.version}"
        )
    return build_document_from_order(order)


@router.get("/v1/orders/{order_id}/history", response_model=OrderHistory)
async def get_history(context: Injected[OrdersContext], order_id: UUID, caller: Customer) -> Response:
    """Every event of the order: version, type, time, who, and in which trace."""
    return make_json_response(
        OrderHistory(items=build_history_entries(await _load_visible_events(context, caller, order_id)))
    )


@router.get(
    "/v1/orders/{order_id}/events",
    responses={
        200: {"content": {EVENT_STREAM_TYPE: {}}, "description": "one event per change of the order"},
        204: {"description": "the order has ended with the version of `Last-Event-ID`: don't connect again"},
    },
)
async def get_events(
    context: Injected[OrdersContext],
    order_id: UUID,
    caller: Customer,
    last_event_id: Annotated[int, Header(ge=0, le=100_000, description="resume after this version")] = 0,
) -> Response:
    """Server-Sent Events: the order's changes as they happen, until it has ended. The id of each is its version.

    A stream lasts for ten minutes at most; connect again with `Last-Event-ID` and nothing is missed. `reset` says that
    the changes after that version are not known, and that they come from the first.
    """
    recorded_events = await _load_visible_events(context, caller, order_id)
    order = model.fold_events((item.event, item.time) for item in recorded_events)
    if order.has_ended and last_event_id == order.version:
        return Response(status_code=204)
    return EventStream(context.resources.live.watch(str(order_id), last_event_id))
