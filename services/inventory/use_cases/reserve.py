"""The verbs of inventory: reserve, release, ship and expire in batches; move by hand; tell who listens."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from caravan import failpoint
from caravan.audit import record_audit
from caravan.auth import Caller
from caravan.concurrency import DataLoader
from caravan.database import Database, UnitOfWork
from caravan.errors import MessageRejected
from caravan.messages import Delivery
from caravan.service import ServiceContext
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
from services.inventory.model import MovementContext, Reservation, StockLedger
from services.inventory.schemas import MovementLine
from services.inventory.settings import Settings
from services.processing.messages import OrderProcessed
from services.shipping.messages import OrderShipped, Parcel

BATCH = 500
SWEEP_SECONDS = 10.0
SERVICE = "service:inventory"

RESERVATION_COUNTER = Counter(
    "caravan_stock_reservations", "Answers to ReserveStock, repeated ones included", ["state"]
)


class InventoryResources:
    """What the service keeps in the process. `skus`: what it has changed and not announced yet; only a hint, a sweep
    over all stock finds what it has lost.
    """

    def __init__(self, database: Database) -> None:
        self.unannounced_skus: set[str] = set()
        self.swept_at = 0.0
        self.availability_loader: DataLoader[str, Availability] = DataLoader(partial(_fetch_availability, database))

    def pop_unannounced_skus(self, limit: int) -> list[str]:
        skus = sorted(self.unannounced_skus)[:limit]
        self.unannounced_skus.difference_update(skus)
        return skus


InventoryContext = ServiceContext[Settings, InventoryResources]
ReleaseRequest = tuple[UUID, str, Delivery[Any]]
"""An order whose stock is to be given back, why, and the message that says so."""


async def reserve_stock(
    context: InventoryContext, uow: UnitOfWork, deliveries: Sequence[Delivery[ReserveStock]]
) -> None:
    """Decide the orders of a batch one after the other on the locked stock; a known order gets its answer again."""
    reservations = await store.find_reservations(uow, {delivery.message.order_id for delivery in deliveries})
    quantities = {
        d.message.order_id: _sum_quantities(d.message.order_id, d.message.lines)
        for d in deliveries
        if d.message.order_id not in reservations
    }
    ledger = await store.lock_stock(uow, {sku for lines in quantities.values() for sku in lines})
    now = context.clock()
    expires_at = now + timedelta(seconds=context.settings.reservation_seconds)
    new_reservations: list[Reservation] = []
    for delivery in deliveries:
        order_id = delivery.message.order_id
        reservation = reservations.get(order_id)
        if reservation is None:
            movement_context = MovementContext(delivery.actor or SERVICE, "order", now, order_id)
            reservation = reservations[order_id] = ledger.reserve_lines(
                order_id, quantities[order_id], movement_context, expires_at
            )
            new_reservations.append(reservation)
        _publish_reservation(uow, reservation, delivery)
    if new_reservations:
        await store.save_with_new_reservations(uow, ledger, new_reservations)
    failpoint.hit("inventory.reserve.before_commit")
    _announce_after_commit(context, uow, ledger)


def _sum_quantities(order_id: UUID, lines: Iterable[StockLine | Parcel]) -> dict[str, int]:
    quantities: dict[str, int] = {}
    for line in lines:
        if line.quantity < 1:
            raise MessageRejected(f"order {order_id}: {line.quantity} of {line.sku} is no quantity")
        quantities[line.sku] = quantities.get(line.sku, 0) + line.quantity
    return quantities


def _publish_reservation(uow: UnitOfWork, reservation: Reservation, caused_by: Delivery[ReserveStock]) -> None:
    order_id = reservation.order_id
    RESERVATION_COUNTER.labels(reservation.state).inc()
    match reservation.state:
        case "held" | "shipped":
            uow.emit(INVENTORY_RESERVED, InventoryReserved(order_id=order_id), key=order_id, caused_by=caused_by)
        case "rejected":
            uow.emit(
                INVENTORY_REJECTED,
                InventoryRejected(order_id=order_id, shortages=reservation.shortages),
                key=order_id,
                caused_by=caused_by,
            )
        case "released":
            uow.emit(
                INVENTORY_RELEASED,
                InventoryReleased(order_id=order_id, reason=reservation.reason),
                key=order_id,
                caused_by=caused_by,
            )


async def release_stock(context: InventoryContext, uow: UnitOfWork, requests: Sequence[ReleaseRequest]) -> set[UUID]:
    """Give back what is held for these orders; those for which anything was. For an order that comes later nothing will
    be reserved.
    """
    now = context.clock()
    reservations = await _lock_or_create_reservations(uow, {order_id: reason for order_id, reason, _ in requests}, now)
    ledger = await store.lock_stock(
        uow, {sku for reservation in reservations.values() if reservation.state == "held" for sku in reservation.lines}
    )
    released: dict[UUID, Reservation] = {}
    for order_id, reason, delivery in requests:
        if ledger.release_reservation(
            reservations[order_id], MovementContext(delivery.actor or SERVICE, reason, now, order_id)
        ):
            released[order_id] = reservations[order_id]
    if released:
        await store.save_with_locked_reservations(uow, ledger, list(released.values()))
    failpoint.hit("inventory.release.before_commit")
    _announce_after_commit(context, uow, ledger)
    return set(released)


async def _lock_or_create_reservations(
    uow: UnitOfWork, reasons: Mapping[UUID, str], now: datetime
) -> dict[UUID, Reservation]:
    """The reservations of these orders, locked. An order without one gets a released one, so that a command which is
    late or on its way meets it.
    """
    reservations = await store.lock_reservations(uow, reasons)
    missing_reasons = {order_id: reason for order_id, reason in reasons.items() if order_id not in reservations}
    if missing_reasons:
        await store.insert_released_reservations(uow, missing_reasons, now)
        reservations |= await store.lock_reservations(uow, missing_reasons)
    return reservations


async def keep_paid_stock(uow: UnitOfWork, deliveries: Sequence[Delivery[OrderProcessed]]) -> None:
    """A paid order keeps its stock until it is shipped, however long that takes."""
    paid_orders = [delivery.message.order_id for delivery in deliveries if delivery.message.outcome == "completed"]
    if paid_orders:
        await store.clear_expiry(uow, paid_orders)


async def ship_stock(context: InventoryContext, uow: UnitOfWork, deliveries: Sequence[Delivery[OrderShipped]]) -> None:
    """The parcels have left: what was held is gone. An order without a reservation takes what is free, and what is
    missing becomes a finding.
    """
    now = context.clock()
    reservations = await _lock_or_create_reservations(
        uow, {delivery.message.order_id: "shipped without a reservation" for delivery in deliveries}, now
    )
    shipments: dict[UUID, tuple[Reservation, Delivery[OrderShipped]]] = {}
    for delivery in deliveries:
        order_id = delivery.message.order_id
        reservation = reservations[order_id]
        if reservation.state == "shipped":
            continue
        if not reservation.lines:
            reservation.lines = _sum_quantities(order_id, delivery.message.parcels)
        shipments.setdefault(order_id, (reservation, delivery))
    ledger = await store.lock_stock(uow, {sku for reservation, _ in shipments.values() for sku in reservation.lines})
    for order_id, (reservation, delivery) in shipments.items():
        movement_context = MovementContext(
            delivery.actor or SERVICE,
            f"{delivery.message.carrier} {delivery.message.tracking_number}"[:200],
            now,
            order_id,
        )
        for shortage in ledger.ship_reservation(reservation, movement_context):
            log.error(
                "shipped what the books do not have",
                order_id=str(order_id),
                sku=shortage.sku,
                wanted=shortage.wanted,
                free=shortage.available,
            )
            record_audit(
                uow,
                "stock.short",
                f"stock:{shortage.sku}",
                actor=SERVICE,
                order_id=str(order_id),
                wanted=shortage.wanted,
                free=shortage.available,
            )
    if shipments:
        await store.save_with_locked_reservations(uow, ledger, [reservation for reservation, _ in shipments.values()])
    failpoint.hit("inventory.ship.before_commit")
    _announce_after_commit(context, uow, ledger)


async def release_expired_reservations(context: InventoryContext) -> bool:
    """Release what was held too long for orders that are not paid."""
    now = context.clock()
    async with context.database.unit_of_work() as uow:
        reservations = await store.lock_expired_reservations(uow, now, BATCH)
        ledger = await store.lock_stock(uow, {sku for reservation in reservations for sku in reservation.lines})
        for reservation in reservations:
            ledger.release_reservation(reservation, MovementContext(SERVICE, "expired", now, reservation.order_id))
            uow.emit(
                INVENTORY_RELEASED,
                InventoryReleased(order_id=reservation.order_id, reason="expired"),
                key=reservation.order_id,
            )
        if reservations:
            await store.save_with_locked_reservations(uow, ledger, reservations)
            _announce_after_commit(context, uow, ledger)
    return len(reservations) == BATCH


async def move_stock(
    context: InventoryContext, uow: UnitOfWork, caller: Caller, lines: Sequence[MovementLine]
) -> StockLedger:
    """Movements by hand, all or none. The first of a sku makes its stock. Receipts with references are one movement of
    each sku.
    """
    lines = _merge_receipts(lines)
    skus = {line.sku for line in lines}
    await store.create_missing_stock(uow, skus)
    ledger = await store.lock_stock(uow, skus)
    now = context.clock()
    for line in lines:
        movement = ledger.apply_movement(
            line.sku, line.kind, line.quantity, MovementContext(caller.audit_name, line.reason, now)
        )
        record_audit(
            uow,
            "stock.adjusted",
            f"stock:{line.sku}",
            kind=line.kind,
            quantity=movement.quantity,
            on_hand=movement.on_hand,
            reason=line.reason,
        )
    await store.save_with_new_reservations(uow, ledger, [])
    _announce_after_commit(context, uow, ledger)
    return ledger


async def find_repeated_references(
    context: InventoryContext, uow: UnitOfWork, lines: Sequence[MovementLine]
) -> set[str]:
    """The references among these that are known; the others are known from here on."""
    references = {line.reference for line in lines if line.reference}
    return references - await store.record_references(uow, references, context.clock()) if references else set()


def _merge_receipts(lines: Sequence[MovementLine]) -> list[MovementLine]:
    """An import says what each of its lines needs; the ledger needs no line for each of them."""
    quantities: dict[tuple[str, str], int] = {}
    other_lines = []
    for line in lines:
        if line.reference and line.kind == "receive":
            quantities[line.sku, line.reason] = quantities.get((line.sku, line.reason), 0) + line.quantity
        else:
            other_lines.append(line)
    return [
        MovementLine(sku=sku, kind="receive", quantity=quantity, reason=reason)
        for (sku, reason), quantity in quantities.items()
    ] + other_lines


def _announce_after_commit(context: InventoryContext, uow: UnitOfWork, ledger: StockLedger) -> None:
    """After the commit: hint to live streams at once, and note the skus for the next announcement."""
    skus = list(ledger.get_changed_stocks())
    if not skus:
        return

    async def publish_hints() -> None:
        context.resources.unannounced_skus.update(skus)
        await context.changes.publish("stock", skus)

    uow.run_after_commit(publish_hints)


async def publish_stock_changes(context: InventoryContext) -> bool:
    """Publish the stock that changed: one message per sku and round, however many orders touched it."""
    resources, now = context.resources, asyncio.get_running_loop().time()
    is_sweep = now - resources.swept_at > SWEEP_SECONDS
    skus = None if is_sweep else resources.pop_unannounced_skus(BATCH)
    if skus == []:
        return False
    async with context.database.unit_of_work() as uow:
        stocks = await store.claim_unannounced_stock(uow, skus, BATCH)
        for stock in stocks:
            uow.emit(
                STOCK_CHANGED,
                StockChanged(
                    sku=stock.sku,
                    on_hand=stock.on_hand,
                    reserved=stock.reserved,
                    available=stock.available,
                    stock_version=stock.version,
                ),
                key=stock.sku,
            )
    if is_sweep and len(stocks) < BATCH:
        resources.swept_at = now
    return len(stocks) == BATCH


async def get_availability(context: InventoryContext, request: AvailabilityRequest) -> Availabilities:
    return Availabilities.model_construct(stock=await context.resources.availability_loader.load_many(request.skus))


async def _fetch_availability(database: Database, skus: list[str]) -> dict[str, Availability]:
    stocks = await store.find_stock(database, skus)
    return {
        s.sku: Availability.model_construct(sku=s.sku, on_hand=s.on_hand, reserved=s.reserved, available=s.available)
        for s in stocks
    }
