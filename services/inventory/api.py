"""The HTTP entry point of inventory."""

from typing import Annotated

from fastapi import APIRouter, Header, Path
from fastapi.responses import Response

from caravan.auth import Staff
from caravan.errors import CapacityExceeded, NotFound
from caravan.http import (
    EVENT_STREAM_TYPE,
    CursorParameter,
    EventStream,
    Injected,
    Limit,
    decode_cursor,
    document_headers,
    format_entity_tag,
    make_json_response,
    make_page_response,
)
from caravan.idempotency import OptionalIdempotency
from caravan.schemas import Page
from services.inventory.model import Stock
from services.inventory.schemas import (
    BalanceDocument,
    MovementDocument,
    MovementLine,
    MovementRequest,
    MovementsRequest,
    MovementsSummary,
    Sku,
    StockDocument,
)
from services.inventory.store import stock_table
from services.inventory.use_cases import InventoryContext, move

router = APIRouter(tags=["stock"])

SkuPath = Annotated[Sku, Path(description="the product's sku")]
MAX_VERSION = 2**62


async def _get_stock(context: InventoryContext, sku: str) -> Stock:
    stocks = await stock_table.find_stock(context.database, [sku])
    if not stocks:
        raise NotFound(f"no stock of {sku}: none was ever received")
    return stocks[0]


@router.get("/v1/stock/{sku}", response_model=StockDocument, responses=document_headers(200, "ETag"))
async def get_stock(context: Injected[InventoryContext], sku: SkuPath) -> Response:
    """How many are here, how many of them are reserved, and how many can be sold. 404 for a sku that never had
    stock.
    """
    stock = await _get_stock(context, sku)
    document = StockDocument(sku=sku, on_hand=stock.on_hand, reserved=stock.reserved, available=stock.available)
    return make_json_response(document, headers={"ETag": format_entity_tag(stock.version)})


@router.get("/v1/stock/{sku}/balance", response_model=BalanceDocument, responses=document_headers(200, "ETag"))
async def get_balance(context: Injected[InventoryContext], sku: SkuPath, _: Staff) -> Response:
    """The whole account of a sku: `available + reserved + shipped = received + adjusted`."""
    stock = await _get_stock(context, sku)
    document = BalanceDocument(
        sku=sku,
        on_hand=stock.on_hand,
        reserved=stock.reserved,
        available=stock.available,
        shipped=stock.shipped,
        received=stock.received,
        adjusted=stock.adjusted,
        version=stock.version,
    )
    return make_json_response(document, headers={"ETag": format_entity_tag(stock.version)})


@router.post("/v1/stock/movements", status_code=201, response_model=MovementsSummary)
async def post_movements(
    context: Injected[InventoryContext], body: MovementsRequest, caller: Staff, idempotent_request: OptionalIdempotency
) -> Response:
    """Up to 500 movements at once, all or none, in their order; for imports. Those whose `reference` is known are left
    out and named in `repeated`.
    """

    async def move_stock() -> Response:
        async with context.database.unit_of_work() as uow:
            repeated_references = await move.find_repeated_references(context, uow, body.movements)
            new_lines = [line for line in body.movements if line.reference not in repeated_references]
            ledger = await move.move_stock(context, uow, caller, new_lines)
            summary = MovementsSummary(
                movements=len(new_lines), skus=len(ledger.get_changed_stocks()), repeated=sorted(repeated_references)
            )
            return idempotent_request.store(uow, 201, summary.model_dump(exclude_defaults=True))

    return await idempotent_request.execute(context.database, move_stock)


@router.post(
    "/v1/stock/{sku}/movements",
    status_code=201,
    response_model=MovementDocument,
    responses=document_headers(201, "Location"),
)
async def post_movement(
    context: Injected[InventoryContext],
    sku: SkuPath,
    body: MovementRequest,
    caller: Staff,
    idempotent_request: OptionalIdempotency,
) -> Response:
    """Receive, adjust, count or take back. The first movement of a sku makes its stock: goods may come before the
    catalogue knows them.
    """
    movement_line = MovementLine(sku=sku, kind=body.kind, quantity=body.quantity, reason=body.reason)

    async def move_stock() -> Response:
        async with context.database.unit_of_work() as uow:
            ledger = await move.move_stock(context, uow, caller, [movement_line])
            document = MovementDocument(**ledger.movements[0]._asdict())
            return idempotent_request.store(
                uow, 201, document.model_dump_json().encode(), {"Location": f"/v1/stock/{sku}/movements"}
            )

    return await idempotent_request.execute(context.database, move_stock)


@router.get("/v1/stock/{sku}/movements", response_model=Page[MovementDocument])
async def list_movements(
    context: Injected[InventoryContext], sku: SkuPath, _: Staff, limit: Limit = 20, cursor: CursorParameter = None
) -> Response:
    """The ledger of a sku, newest first: every change with its time, actor, order and reason. It can't be changed
    afterwards.
    """
    before = decode_cursor(cursor, _parse_version)
    rows = await stock_table.list_movements(context.database, sku, before[0] if before else None, limit + 1)
    if not rows and before is None:
        await _get_stock(context, sku)
    return make_page_response(rows, limit, lambda row: MovementDocument(**row._asdict()), lambda row: (row.version,))


def _parse_version(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_VERSION:
        raise ValueError("not a version")
    return value


@router.get(
    "/v1/stock/{sku}/events",
    responses={200: {"content": {EVENT_STREAM_TYPE: {}}, "description": "the stock now, and after each change"}},
)
async def get_stock_events(
    context: Injected[InventoryContext],
    sku: SkuPath,
    last_event_id: Annotated[
        int, Header(ge=0, le=MAX_VERSION, description="resume: the stock of this version is known already")
    ] = 0,
) -> EventStream:
    """Server-Sent Events: the stock of a sku as it is now and as it changes, at most ten times a second, for some
    minutes. The id of each is its version.
    """
    await _get_stock(context, sku)
    live = context.resources.live
    if live.open_streams >= context.settings.max_streams:
        raise CapacityExceeded(
            "too many live streams are open; try again, or ask for the stock now and then", retry_after=10
        )
    return EventStream(live.watch(sku, last_event_id))
