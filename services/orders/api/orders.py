"""Orders: place, list, show and cancel."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response

from caravan.auth import Customer
from caravan.database import UnitOfWork
from caravan.http import (
    CursorParameter,
    Injected,
    Limit,
    decode_cursor,
    document_headers,
    format_entity_tag,
    make_json_response,
    make_page_response,
)
from caravan.idempotency import OptionalIdempotency, RequiredIdempotency
from caravan.schemas import Page
from caravan.times import Time, parse_time
from services.orders import model
from services.orders.api.documents import build_document_from_order, build_document_from_summary, build_item
from services.orders.api.history import load_past_order
from services.orders.schemas import AcceptedOrder, CancelRequest, OrderDocument, OrderItem, OrderRequest
from services.orders.store import streams, summaries
from services.orders.use_cases import READ_DATABASE, OrdersContext, cancel, place, read

router = APIRouter(tags=["orders"])

Version = Annotated[int | None, Query(ge=1, le=100_000)]


@router.post("/v1/orders", status_code=202, response_model=AcceptedOrder, responses=document_headers(202, "Location"))
async def post_order(
    context: Injected[OrdersContext], order: OrderRequest, caller: Customer, idempotent_request: RequiredIdempotency
) -> Response:
    """Place an order. It is stored when this answers 202; follow `Location` for what becomes of it. 409 when a line is
    not in stock.
    """

    def store_response(uow: UnitOfWork, accepted: AcceptedOrder) -> Response:
        return idempotent_request.store(
            uow, 202, accepted.model_dump_json().encode(), {"Location": f"/v1/orders/{accepted.id}"}
        )

    async with context.resources.slots:
        return await idempotent_request.execute(
            context.database, lambda: place.place_order(context, caller, order, store_response)
        )


@router.get("/v1/orders", response_model=Page[OrderDocument] | Page[OrderItem])
async def list_orders(
    context: Injected[OrdersContext],
    caller: Customer,
    status: model.OrderStatus | None = None,
    view: Annotated[
        Literal["summary", "full"], Query(description="`full`: each with all that `/v1/orders/{order_id}` shows")
    ] = "summary",
    user_id: Annotated[UUID | None, Query(description="for staff: only those of this customer")] = None,
    trace_id: Annotated[
        str | None, Query(pattern="^[0-9a-f]{32}$", description="only those that were placed in this trace")
    ] = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Response:
    """Your orders, newest first; staff see everybody's."""
    after = decode_cursor(cursor, parse_time, UUID)
    owner = user_id if caller.has_role("staff") else caller.user_id
    placed_in_trace = await streams.list_placed_orders(context.database, trace_id) if trace_id else None
    selection = summaries.Filter(owner, status, placed_in_trace)
    read_database = context.databases[READ_DATABASE]
    if view == "full":
        orders = await summaries.list_full_orders(read_database, selection, after, limit + 1)
        return make_page_response(
            orders, limit, build_document_from_summary, lambda row: (row.placed.placed_at, row.placed.id)
        )
    rows = await summaries.list_orders(read_database, selection, after, limit + 1)
    return make_page_response(rows, limit, build_item, lambda row: (row.placed_at, row.id))


@router.get("/v1/orders/{order_id}", response_model=OrderDocument, responses=document_headers(200, "ETag"))
async def get_order(
    context: Injected[OrdersContext],
    order_id: UUID,
    caller: Customer,
    version: Annotated[int | None, Query(ge=1, le=100_000, description="the order as it was at this version")] = None,
    at: Annotated[Time | None, Query(description="the order as it was at this time (RFC 3339)")] = None,
    min_version: Annotated[
        int | None,
        Query(ge=1, le=100_000, description="wait until the answer shows at least this version (read your write)"),
    ] = None,
) -> Response:
    """An order now, or as it was."""
    if version is not None or at is not None:
        document = await load_past_order(context, caller, order_id, version, at)
    else:
        document = build_document_from_summary(await read.read_order(context, caller, order_id, min_version))
    return make_json_response(document, headers={"ETag": format_entity_tag(document.version)})


@router.post(
    "/v1/orders/{order_id}/cancel",
    status_code=202,
    response_model=OrderDocument,
    responses=document_headers(202, "Location"),
)
async def cancel_order(
    context: Injected[OrdersContext],
    order_id: UUID,
    caller: Customer,
    idempotent_request: OptionalIdempotency,
    body: CancelRequest | None = None,
) -> Response:
    """Undo an order that has not been shipped: stock and money go back. Asking again changes nothing; 409 once the
    parcel has left.
    """
    reason = (body or CancelRequest()).reason

    def store_response(uow: UnitOfWork, order: model.Order) -> Response:
        return idempotent_request.store(
            uow,
            202,
            build_document_from_order(order).model_dump_json().encode(),
            {"Location": f"/v1/orders/{order_id}"},
        )

    async def cancel_and_read() -> Response:
        version, response = await cancel.cancel_order(context, caller, order_id, reason, store_response)
        await read.give_time_to_show(context, order_id, version)
        return response

    return await idempotent_request.execute(context.database, cancel_and_read)
