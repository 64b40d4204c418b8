"""The verbs of inventory: reserve, release, ship and expire in batches; move by hand; tell who listens."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from caravan import crash
from caravan.audit import audit
from caravan.auth import Caller
from caravan.coalesce import Coalesced
from caravan.database import Database, UnitOfWork
from caravan.errors import Reject
from caravan.messages import Delivery
from caravan.service import Context
from caravan.telemetry import log
from services.inventory import store
from services.inventory.client import Availabilities, Availability, AvailabilityRequest
from services.inventory.messages import (
    INVENTORY_REJECTED,
    INVENTORY_RELEASED,
    INVENTORY_RESERVED,
    STOCK_CHANGED,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    ReserveStock,
    StockChanged,
    StockLine,
)
from services.inventory.model import Deed, Reservation, Shelf
from services.inventory.schemas import MovementLine
from services.inventory.settings import Settings
from services.processing.messages import OrderProcessed
from services.shipping.messages import OrderShipped, Parcel

BATCH = 500
SWEEP_SECONDS = 10.0
SERVICE = "service:inventory"

ANSWERS = Counter("caravan_stock_reservations", "Answers to ReserveStock, repeated ones included", ["state"])


class Parts:
    """What the service keeps in the process. `skus`: what it has changed and not announced yet; only a hint, a sweep over all stock finds what it has lost."""

    def __init__(self, database: Database) -> None:
        self.skus: set[str] = set()
        self.swept_at = 0.0
        self.availability: Coalesced[str, Availability] = Coalesced(partial(_availability_of, database))

    def take(self, limit: int) -> list[str]:
        taken = sorted(self.skus)[:limit]
        self.skus.difference_update(taken)
        return taken


InventoryContext = Context[Settings, Parts]
Asked = tuple[UUID, str, Delivery[Any]]
"""An order whose stock is to be given back, why, and the message that says so."""


async def reserve(context: InventoryContext, work: UnitOfWork, deliveries: Sequence[Delivery[ReserveStock]]) -> None:
    """Decide the orders of a batch one after the other on the locked stock; a known order gets its answer again."""
    known = await store.find_reservations(work, {delivery.message.order_id for delivery in deliveries})
    wanted = {d.message.order_id: _quantities(d.message.order_id, d.message.lines) for d in deliveries if d.message.order_id not in known}
    shelf = await store.lock_stock(work, {sku for lines in wanted.values() for sku in lines})
    now = context.clock()
    until = now + timedelta(seconds=context.settings.reservation_seconds)
    made: list[Reservation] = []
    for delivery in deliveries:
        order_id = delivery.message.order_id
        reservation = known.get(order_id)
        if reservation is None:
            deed = Deed(delivery.actor or SERVICE, "order", now, order_id)
            reservation = known[order_id] = shelf.reserve(order_id, wanted[order_id], deed, until)
            made.append(reservation)
        _answer(work, reservation, delivery)
    if made:
        await store.add(work, shelf, made)
    crash.point("inventory.reserve.before_commit")
    _changed(context, work, shelf)


def _quantities(order_id: UUID, lines: Iterable[StockLine | Parcel]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        if line.quantity < 1:
            raise Reject(f"order {order_id}: {line.quantity} of {line.sku} is no quantity")
        found[line.sku] = found.get(line.sku, 0) + line.quantity
    return found


def _answer(work: UnitOfWork, reservation: Reservation, due: Delivery[ReserveStock]) -> None:
    order_id = reservation.order_id
    ANSWERS.labels(reservation.state).inc()
    match reservation.state:
        case "held" | "shipped":
            work.emit(INVENTORY_RESERVED, InventoryReserved(order_id=order_id), key=order_id, due=due)
        case "rejected":
            work.emit(INVENTORY_REJECTED, InventoryRejected(order_id=order_id, shortages=reservation.shortages), key=order_id, due=due)
        case "released":
            work.emit(INVENTORY_RELEASED, InventoryReleased(order_id=order_id, reason=reservation.reason), key=order_id, due=due)


async def release(context: InventoryContext, work: UnitOfWork, asked: Sequence[Asked]) -> set[UUID]:
    """Give back what is held for these orders; those for which anything was. For an order that comes later nothing will be reserved."""
    now = context.clock()
    known = await _lock(work, {order_id: reason for order_id, reason, _ in asked}, now)
    shelf = await store.lock_stock(
        work, {sku for reservation in known.values() if reservation.state == "held" for sku in reservation.lines}
    )
    released: dict[UUID, Reservation] = {}
    for order_id, reason, delivery in asked:
        if shelf.release(known[order_id], Deed(delivery.actor or SERVICE, reason, now, order_id)):
            released[order_id] = known[order_id]
    if released:
        await store.change(work, shelf, list(released.values()))
    crash.point("inventory.release.before_commit")
    _changed(context, work, shelf)
    return set(released)


async def _lock(work: UnitOfWork, reasons: Mapping[UUID, str], now: datetime) -> dict[UUID, Reservation]:
    """The reservations of these orders, locked. An order without one gets a released one, so that a command which is late or on its way meets it."""
    known = await store.lock_reservations(work, reasons)
    unknown = {order_id: reason for order_id, reason in reasons.items() if order_id not in known}
    if unknown:
        await store.mark_released(work, unknown, now)
        known |= await store.lock_reservations(work, unknown)
    return known


async def keep(work: UnitOfWork, deliveries: Sequence[Delivery[OrderProcessed]]) -> None:
    """A paid order keeps its stock until it is shipped, however long that takes."""
    paid = [delivery.message.order_id for delivery in deliveries if delivery.message.outcome == "completed"]
    if paid:
        await store.keep(work, paid)


async def ship(context: InventoryContext, work: UnitOfWork, deliveries: Sequence[Delivery[OrderShipped]]) -> None:
    """The parcels have left: what was held is gone. An order without a reservation takes what is free, and what is missing becomes a finding."""
    now = context.clock()
    known = await _lock(work, {delivery.message.order_id: "shipped without a reservation" for delivery in deliveries}, now)
    left: dict[UUID, tuple[Reservation, Delivery[OrderShipped]]] = {}
    for delivery in deliveries:
        order_id = delivery.message.order_id
        reservation = known[order_id]
        if reservation.state == "shipped":
            continue
        if not reservation.lines:
            reservation.lines = _quantities(order_id, delivery.message.parcels)
        left.setdefault(order_id, (reservation, delivery))
    shelf = await store.lock_stock(work, {sku for reservation, _ in left.values() for sku in reservation.lines})
    for order_id, (reservation, delivery) in left.items():
        deed = Deed(delivery.actor or SERVICE, f"{delivery.message.carrier} {delivery.message.tracking_number}"[:200], now, order_id)
        for short in shelf.ship(reservation, deed):
            log.error(
                "shipped what the books do not have", order_id=str(order_id), sku=short.sku, wanted=short.wanted, free=short.available
            )
            audit(
                work, "stock.short", f"stock:{short.sku}", actor=SERVICE, order_id=str(order_id), wanted=short.wanted, free=short.available
            )
    if left:
        await store.change(work, shelf, [reservation for reservation, _ in left.values()])
    crash.point("inventory.ship.before_commit")
    _changed(context, work, shelf)


async def expire(context: InventoryContext) -> bool:
    """Release what was held too long for orders that are not paid."""
    now = context.clock()
    async with context.database.work() as work:
        expired = await store.lock_expired(work, now, BATCH)
        shelf = await store.lock_stock(work, {sku for reservation in expired for sku in reservation.lines})
        for reservation in expired:
            shelf.release(reservation, Deed(SERVICE, "expired", now, reservation.order_id))
            work.emit(INVENTORY_RELEASED, InventoryReleased(order_id=reservation.order_id, reason="expired"), key=reservation.order_id)
        if expired:
            await store.change(work, shelf, expired)
            _changed(context, work, shelf)
    return len(expired) == BATCH


async def move_stock(context: InventoryContext, work: UnitOfWork, caller: Caller, lines: Sequence[MovementLine]) -> Shelf:
    """Movements by hand, all or none. The first of a sku makes its stock. Receipts with references are one movement of each sku."""
    lines = _add_up(lines)
    skus = {line.sku for line in lines}
    await store.make_stock(work, skus)
    shelf = await store.lock_stock(work, skus)
    now = context.clock()
    for line in lines:
        done = shelf.move(line.sku, line.kind, line.quantity, Deed(caller.name, line.reason, now))
        audit(work, "stock.adjusted", f"stock:{line.sku}", kind=line.kind, quantity=done.quantity, on_hand=done.on_hand, reason=line.reason)
    await store.add(work, shelf, [])
    _changed(context, work, shelf)
    return shelf


async def find_repeated(context: InventoryContext, work: UnitOfWork, lines: Sequence[MovementLine]) -> set[str]:
    """The references among these that are known; the others are known from here on."""
    references = {line.reference for line in lines if line.reference}
    return references - await store.record_references(work, references, context.clock()) if references else set()


def _add_up(lines: Sequence[MovementLine]) -> list[MovementLine]:
    """An import says what each of its lines needs; the ledger needs no line for each of them."""
    units: dict[tuple[str, str], int] = {}
    rest = []
    for line in lines:
        if line.reference and line.kind == "receive":
            units[line.sku, line.reason] = units.get((line.sku, line.reason), 0) + line.quantity
        else:
            rest.append(line)
    return [MovementLine(sku=sku, kind="receive", quantity=quantity, reason=reason) for (sku, reason), quantity in units.items()] + rest


def _changed(context: InventoryContext, work: UnitOfWork, shelf: Shelf) -> None:
    """After the commit: hint to live streams at once, and note the skus for the next announcement."""
    skus = list(shelf.changed())
    if not skus:
        return

    async def tell() -> None:
        context.parts.skus.update(skus)
        await context.live.publish("stock", skus)

    work.after_commit(tell)


async def announce(context: InventoryContext) -> bool:
    """Publish the stock that changed: one message per sku and round, however many orders touched it."""
    changed, now = context.parts, asyncio.get_running_loop().time()
    sweeping = now - changed.swept_at > SWEEP_SECONDS
    skus = None if sweeping else changed.take(BATCH)
    if skus == []:
        return False
    async with context.database.work() as work:
        stocks = await store.announce(work, skus, BATCH)
        for stock in stocks:
            work.emit(
                STOCK_CHANGED,
                StockChanged(
                    sku=stock.sku, on_hand=stock.on_hand, reserved=stock.reserved, available=stock.available, stock_version=stock.version
                ),
                key=stock.sku,
            )
    if sweeping and len(stocks) < BATCH:
        changed.swept_at = now
    return len(stocks) == BATCH


async def availability(context: InventoryContext, request: AvailabilityRequest) -> Availabilities:
    return Availabilities.model_construct(stock=await context.parts.availability.get(request.skus))


async def _availability_of(database: Database, skus: list[str]) -> dict[str, Availability]:
    found = await store.find_stock(database, skus)
    return {s.sku: Availability.model_construct(sku=s.sku, on_hand=s.on_hand, reserved=s.reserved, available=s.available) for s in found}
