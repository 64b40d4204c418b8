"""The HTTP door of orders."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import orjson
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from caravan.auth import Caller, Customer
from caravan.clock import format_rfc3339
from caravan.database import UnitOfWork
from caravan.errors import NotFound
from caravan.events import RecordedEvent
from caravan.http import (
    EVENT_STREAM_TYPE,
    CursorParameter,
    EventStream,
    Limit,
    decode_cursor,
    document_headers,
    format_entity_tag,
    make_json_response,
    make_page_response,
)
from caravan.idempotency import OptionalIdempotency, RequiredIdempotency
from caravan.money import Money
from caravan.schemas import Page
from caravan.times import Time, parse_time
from services.orders import model, store
from services.orders.messages import OrderCreated
from services.orders.schemas import (
    AcceptedOrder,
    Cancellation,
    CancelRequest,
    HistoryEntry,
    LineItem,
    OrderDocument,
    OrderHistory,
    OrderItem,
    OrderRequest,
)
from services.orders.use_cases import READ_DATABASE, OrdersContext, cancel, place, read

router = APIRouter(tags=["orders"])

Status = Literal[
    "created", "reserved", "paid", "shipped", "delivered", "rejected", "payment_failed", "cancelled", "refunded"
]
POLL_SECONDS = 1.0
POLLS_PER_HEARTBEAT = 15
Version = Annotated[int | None, Query(ge=1, le=100_000)]


def _get_context(request: Request) -> OrdersContext:
    context: OrdersContext = request.app.state.context
    return context


@router.post("/v1/orders", status_code=202, response_model=AcceptedOrder, responses=document_headers(202, "Location"))
async def post_order(
    request: Request, order: OrderRequest, caller: Customer, idempotent_request: RequiredIdempotency
) -> Response:
    """Place an order. It is stored when this answers 202; follow `Location` for what becomes of it. 409 when a line is
    not in stock.
    """
    context = _get_context(request)

    def store_response(uow: UnitOfWork, accepted: AcceptedOrder) -> Response:
        return idempotent_request.store(
            uow, 202, accepted.model_dump_json().encode(), {"Location": f"/v1/orders/{accepted.id}"}
        )

    async with context.resources.slots:
        return await idempotent_request.execute(
            context.database, lambda: place.place_order(context, caller, order, store_response)
        )


@router.get("/v1/orders", response_model=Page[OrderItem])
async def list_orders(
    request: Request, caller: Customer, status: Status | None = None, limit: Limit = 20, cursor: CursorParameter = None
) -> Response:
    """Your orders, newest first; staff see everybody's."""
    after = decode_cursor(cursor, parse_time, UUID)
    owner = None if caller.has_role("staff") else caller.user_id
    rows = await store.list_orders(_get_context(request).databases[READ_DATABASE], owner, status, after, limit + 1)
    return make_page_response(rows, limit, _to_item, lambda row: (row["placed_at"], row["id"]))


def _to_item(row: asyncpg.Record) -> OrderItem:
    return OrderItem(**{**row, "total": Money(amount=row["total"], currency=row["currency"])})


@router.get("/v1/orders/{order_id}", response_model=OrderDocument, responses=document_headers(200, "ETag"))
async def get_order(
    request: Request,
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
    context = _get_context(request)
    if version is not None or at is not None:
        document = await _load_past_order(context, caller, order_id, version, at)
    else:
        document = _build_document_from_row(await read.read_order(context, caller, order_id, min_version))
    return make_json_response(document, headers={"ETag": format_entity_tag(document.version)})


def _build_document_from_row(row: asyncpg.Record) -> OrderDocument:
    currency = row["currency"]
    return OrderDocument(
        id=row["id"],
        status=row["status"],
        version=row["version"],
        user_id=row["user_id"],
        lines=[_to_line_item(line, currency) for line in orjson.loads(row["lines"])],
        total=Money(amount=row["total"], currency=currency),
        shipping_address=orjson.loads(row["shipping_address"]),
        cancelling=row["cancelling"],
        cancellation=_to_cancellation(row["cancellation"], row["cancellation_reason"]),
        reason=row["reason"],
        invoice_number=row["invoice_number"],
        tracking_number=row["tracking_number"],
        refunded=Money(amount=row["refunded"], currency=currency) if row["refunded"] is not None else None,
        placed_at=row["placed_at"],
        updated_at=row["updated_at"],
    )


def _to_cancellation(state: model.CancellationState | None, reason: str | None) -> Cancellation | None:
    return Cancellation(state=state, reason=reason or "") if state else None


def _to_line_item(line: dict[str, Any], currency: str) -> LineItem:
    return LineItem(
        sku=line["sku"],
        name=line["name"],
        quantity=line["quantity"],
        unit_price=Money(amount=line["unit_price"], currency=currency),
        amount=Money(amount=line["unit_price"] * line["quantity"], currency=currency),
    )


async def _load_visible_events(
    context: OrdersContext, caller: Caller, order_id: UUID, **limits: Any
) -> list[RecordedEvent]:
    """The events of an order that the caller may see. NotFound otherwise, also when there were none yet."""
    recorded_events = await store.load_events(context.database, order_id, **limits)
    if not recorded_events:
        raise NotFound(f"no order {order_id}" + (" at that time" if limits else ""))
    created = recorded_events[0].event
    assert isinstance(created, OrderCreated)
    if not caller.can_see(created.user_id):
        raise NotFound(f"no order {order_id}")
    return recorded_events


async def _load_past_order(
    context: OrdersContext, caller: Caller, order_id: UUID, version: int | None, at: datetime | None
) -> OrderDocument:
    recorded_events = await _load_visible_events(context, caller, order_id, version=version, until=at)
    order = model.fold_events((item.event, item.time) for item in recorded_events)
    if version is not None and order.version < version:
        raise NotFound(
            f"order {order_id} has no version {version}{' at that time' if at else ''}: it is at {order.version}"
        )
    return _build_document_from_order(order)


def _build_document_from_order(order: model.Order) -> OrderDocument:
    created = order.created
    assert created is not None
    return OrderDocument(
        id=created.order_id,
        status=order.status,
        version=order.version,
        user_id=created.user_id,
        lines=[_to_line_item(line.model_dump(), created.total.currency) for line in created.lines],
        total=created.total,
        shipping_address=created.shipping_address.model_dump(),
        cancelling=order.cancelling,
        cancellation=_to_cancellation(order.cancellation, order.cancellation_reason),
        reason=order.reason,
        invoice_number=order.invoice_number,
        tracking_number=order.tracking_number,
        refunded=order.refunded,
        placed_at=created.placed_at,
        updated_at=order.updated_at or created.placed_at,
    )


@router.get("/v1/orders/{order_id}/history", response_model=OrderHistory)
async def get_history(request: Request, order_id: UUID, caller: Customer) -> Response:
    """Every event of the order: version, type, time, who, and in which trace."""
    return make_json_response(
        OrderHistory(items=_to_history_entries(await _load_visible_events(_get_context(request), caller, order_id)))
    )


def _to_history_entries(recorded_events: list[RecordedEvent]) -> list[HistoryEntry]:
    order = model.Order()
    entries = []
    for item in recorded_events:
        order.apply(item.event, item.time)
        data = item.event.model_dump(mode="json")
        name = type(item.event).__name__
        entries.append(
            HistoryEntry(
                version=item.version,
                type=name,
                status=order.status,
                time=item.time,
                actor=item.actor,
                trace_id=item.trace_id,
                data=data,
            )
        )
    return entries


@router.get(
    "/v1/orders/{order_id}/events",
    responses={200: {"content": {EVENT_STREAM_TYPE: {}}, "description": "one event per change of the order"}},
)
async def get_events(
    request: Request,
    order_id: UUID,
    caller: Customer,
    last_event_id: Annotated[int, Header(ge=0, le=100_000, description="resume after this version")] = 0,
) -> EventStream:
    """Server-Sent Events: the order's changes as they happen, until it has ended. The id of each is its version."""
    context = _get_context(request)
    await _load_visible_events(context, caller, order_id)
    return EventStream(_stream_events(context, order_id, last_event_id))


async def _stream_events(context: OrdersContext, order_id: UUID, last_version: int) -> AsyncIterator[bytes]:
    idle_polls = 0
    async with context.changes.listen("orders", str(order_id)) as change_signal:
        while True:
            change_signal.clear()
            entries = _to_history_entries(await store.load_events(context.database, order_id))
            for entry in entries[last_version:]:
                data = {
                    "version": entry.version,
                    "type": entry.type,
                    "status": entry.status,
                    "time": format_rfc3339(entry.time),
                }
                yield b"id: %d\nevent: status\ndata: %s\n\n" % (entry.version, orjson.dumps(data))
                idle_polls = 0
            last_version = max(last_version, len(entries))
            if entries and entries[-1].status in model.TERMINAL:
                return
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await change_signal.wait()
            except TimeoutError:
                idle_polls += 1
                if idle_polls % POLLS_PER_HEARTBEAT == 0:
                    yield b": still here\n\n"


@router.post(
    "/v1/orders/{order_id}/cancel",
    status_code=202,
    response_model=OrderDocument,
    responses=document_headers(202, "Location"),
)
async def cancel_order(
    request: Request,
    order_id: UUID,
    caller: Customer,
    idempotent_request: OptionalIdempotency,
    body: CancelRequest | None = None,
) -> Response:
    """Undo an order that has not been shipped: stock and money go back. Asking again changes nothing; 409 once the
    parcel has left.
    """
    context = _get_context(request)
    reason = (body or CancelRequest()).reason

    def store_response(uow: UnitOfWork, order: model.Order) -> Response:
        return idempotent_request.store(
            uow,
            202,
            _build_document_from_order(order).model_dump_json().encode(),
            {"Location": f"/v1/orders/{order_id}"},
        )

    async def cancel_and_read() -> Response:
        version, response = await cancel.cancel_order(context, caller, order_id, reason, store_response)
        await read.read_order(
            context, caller, order_id, version
        )  # what the client reads next is no older than this answer
        return response

    return await idempotent_request.execute(context.database, cancel_and_read)
