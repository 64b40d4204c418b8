"""The HTTP door of inventory."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import Response

from caravan.auth import Staff
from caravan.errors import Busy, NotFound
from caravan.http import (
    EVENTS,
    CursorParameter,
    EventStream,
    Limit,
    Page,
    decode_cursor,
    document_headers,
    entity_tag,
    json_response,
    page_response,
)
from caravan.idempotency import OnceIfKeyed
from services.inventory import store, use_cases
from services.inventory.model import Stock
from services.inventory.schemas import (
    BalanceDocument,
    MovementDocument,
    MovementLine,
    MovementRequest,
    MovementsDone,
    MovementsRequest,
    Sku,
    StockDocument,
)
from services.inventory.use_cases import InventoryContext

router = APIRouter(tags=["stock"])

SkuPath = Annotated[Sku, Path(description="the product's sku")]
MAX_VERSION = 2**62
POLL_SECONDS = 1.0
GAP_SECONDS = 0.1
QUIET_POLLS = 15

open_streams = 0


def _context(request: Request) -> InventoryContext:
    context: InventoryContext = request.app.state.context
    return context


async def _find(context: InventoryContext, sku: str) -> Stock:
    found = await store.find_stock(context.database, [sku])
    if not found:
        raise NotFound(f"no stock of {sku}: none was ever received")
    return found[0]


@router.get("/v1/stock/{sku}", response_model=StockDocument, responses=document_headers(200, "ETag"))
async def get_stock(request: Request, sku: SkuPath) -> Response:
    """How many are here, how many of them are reserved, and how many can be sold. 404 for a sku that never had stock."""
    stock = await _find(_context(request), sku)
    document = StockDocument(sku=sku, on_hand=stock.on_hand, reserved=stock.reserved, available=stock.available)
    return json_response(document, headers={"ETag": entity_tag(stock.version)})


@router.get("/v1/stock/{sku}/balance", response_model=BalanceDocument, responses=document_headers(200, "ETag"))
async def get_balance(request: Request, sku: SkuPath, _: Staff) -> Response:
    """The whole account of a sku: `available + reserved + shipped = received + adjusted`."""
    stock = await _find(_context(request), sku)
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
    return json_response(document, headers={"ETag": entity_tag(stock.version)})


@router.post("/v1/stock/movements", status_code=201, response_model=MovementsDone)
async def post_movements(request: Request, body: MovementsRequest, caller: Staff, once: OnceIfKeyed) -> Response:
    """Up to 500 movements at once, all or none, in their order; for imports. Those whose `reference` is known are left out and named in `repeated`."""
    context = _context(request)

    async def act() -> Response:
        async with context.database.work() as work:
            repeated = await use_cases.find_repeated(context, work, body.movements)
            fresh = [line for line in body.movements if line.reference not in repeated]
            shelf = await use_cases.move_stock(context, work, caller, fresh)
            done = MovementsDone(movements=len(fresh), skus=len(shelf.changed()), repeated=sorted(repeated))
            return once.save(work, 201, done.model_dump(exclude_defaults=True))

    return await once.run(context.database, act)


@router.post("/v1/stock/{sku}/movements", status_code=201, response_model=MovementDocument, responses=document_headers(201, "Location"))
async def post_movement(request: Request, sku: SkuPath, body: MovementRequest, caller: Staff, once: OnceIfKeyed) -> Response:
    """Receive, adjust, count or take back. The first movement of a sku makes its stock: goods may come before the catalogue knows them."""
    context = _context(request)
    line = MovementLine(sku=sku, kind=body.kind, quantity=body.quantity, reason=body.reason)

    async def act() -> Response:
        async with context.database.work() as work:
            shelf = await use_cases.move_stock(context, work, caller, [line])
            document = MovementDocument(**shelf.movements[0]._asdict())
            return once.save(work, 201, document.model_dump_json().encode(), {"Location": f"/v1/stock/{sku}/movements"})

    return await once.run(context.database, act)


@router.get("/v1/stock/{sku}/movements", response_model=Page[MovementDocument])
async def list_movements(request: Request, sku: SkuPath, _: Staff, limit: Limit = 20, cursor: CursorParameter = None) -> Response:
    """The ledger of a sku, newest first: every change with its time, actor, order and reason. It can't be changed afterwards."""
    before = decode_cursor(cursor, _version)
    context = _context(request)
    rows = await store.ledger(context.database, sku, before[0] if before else None, limit + 1)
    if not rows and before is None:
        await _find(context, sku)
    return page_response(rows, limit, lambda row: MovementDocument(**row), lambda row: (row["version"],))


def _version(part: object) -> int:
    if type(part) is not int or not 0 <= part <= MAX_VERSION:
        raise ValueError("not a version")
    return part


@router.get("/v1/stock/{sku}/events", responses={200: {"content": {EVENTS: {}}, "description": "the stock now, and after each change"}})
async def get_stock_events(
    request: Request,
    sku: SkuPath,
    last_event_id: Annotated[int, Header(ge=0, le=MAX_VERSION, description="resume: the stock of this version is known already")] = 0,
) -> EventStream:
    """Server-Sent Events: the stock of a sku as it is now and as it changes, at most ten times a second, for some minutes. The id of each is its version."""
    context = _context(request)
    await _find(context, sku)
    if open_streams >= context.settings.streams:
        raise Busy("too many live streams are open; try again, or ask for the stock now and then", retry_after=10)
    return EventStream(_live(context, sku, last_event_id))


async def _live(context: InventoryContext, sku: str, seen: int) -> AsyncIterator[bytes]:
    global open_streams
    loop = asyncio.get_running_loop()
    end, quiet = loop.time() + context.settings.stream_seconds, 0
    open_streams += 1
    try:
        async with context.live.listen("stock", sku) as changed:
            while loop.time() < end:
                changed.clear()
                stock = await _find(context, sku)
                if stock.version > seen:
                    data = {"sku": sku, "on_hand": stock.on_hand, "reserved": stock.reserved, "available": stock.available}
                    yield b"id: %d\nevent: stock\ndata: %s\n\n" % (stock.version, orjson.dumps(data))
                    seen, quiet = stock.version, 0
                    await asyncio.sleep(GAP_SECONDS)
                try:
                    async with asyncio.timeout(max(0.0, min(POLL_SECONDS, end - loop.time()))):
                        await changed.wait()
                except TimeoutError:
                    quiet += 1
                    if quiet % QUIET_POLLS == 0:
                        yield b": still here\n\n"
    finally:
        open_streams -= 1
