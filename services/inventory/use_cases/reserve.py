"""Reserve stock for new orders, a batch on the locked stock at a time."""

from collections.abc import Sequence
from datetime import timedelta

from caravan import failpoint
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.inventory.messages import (
    INVENTORY_REJECTED,
    INVENTORY_RELEASED,
    INVENTORY_RESERVED,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    ReserveStock,
)
from services.inventory.metrics import RESERVATION_COUNTER
from services.inventory.model import MovementContext, Reservation
from services.inventory.store import reservation_table, stock_changes, stock_table
from services.inventory.use_cases import SERVICE, InventoryContext, announce_after_commit, sum_quantities


async def reserve_stock(
    context: InventoryContext, uow: UnitOfWork, deliveries: Sequence[Delivery[ReserveStock]]
) -> None:
    """Decide the orders of a batch one after the other on the locked stock; a known order gets its answer again."""
    reservations = await reservation_table.find_reservations(
        uow, {delivery.message.order_id for delivery in deliveries}
    )
    quantities = {
        d.message.order_id: sum_quantities(d.message.order_id, d.message.lines)
        for d in deliveries
        if d.message.order_id not in reservations
    }
    ledger = await stock_table.lock_stock(uow, {sku for lines in quantities.values() for sku in lines})
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
        await stock_changes.save_with_new_reservations(uow, ledger, new_reservations)
    failpoint.hit("inventory.reserve.before_commit")
    announce_after_commit(context, uow, ledger)


def _publish_reservation(uow: UnitOfWork, reservation: Reservation, caused_by: Delivery[ReserveStock]) -> None:
    order_id = reservation.order_id
    uow.run_after_commit(RESERVATION_COUNTER.labels(reservation.state).inc)
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
