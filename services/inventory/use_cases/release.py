"""Release reserved stock: by command, by cancellation, and when an order was not paid in time."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from caravan import failpoint
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.inventory.messages import INVENTORY_RELEASED, InventoryReleased, ReleaseStock
from services.inventory.model import MovementContext, Reservation
from services.inventory.store import reservation_table, stock_changes, stock_table
from services.inventory.use_cases import BATCH, SERVICE, InventoryContext, announce_after_commit
from services.orders.messages import OrderCancelled
from services.processing.messages import OrderProcessed


async def release_stock(
    context: InventoryContext, uow: UnitOfWork, deliveries: Sequence[Delivery[ReleaseStock | OrderCancelled]]
) -> None:
    """Give back what is held for these orders. For an order that comes later nothing will be reserved.

    A command is answered also when nothing was held. A cancellation is only announced: it releases what the saga's
    command, lost or late, has not, and reports just that.
    """
    now = context.clock()
    reasons = {delivery.message.order_id: delivery.message.reason for delivery in deliveries}
    reservations = await lock_or_create_reservations(uow, reasons, now)
    ledger = await stock_table.lock_stock(
        uow, {sku for reservation in reservations.values() if reservation.state == "held" for sku in reservation.lines}
    )
    released: dict[UUID, Reservation] = {}
    for delivery in deliveries:
        order_id, reason = delivery.message.order_id, delivery.message.reason
        reservation = reservations[order_id]
        is_released = ledger.release_reservation(
            reservation, MovementContext(delivery.actor or SERVICE, reason, now, order_id)
        )
        if is_released:
            released[order_id] = reservation
        if is_released or isinstance(delivery.message, ReleaseStock):
            uow.emit(
                INVENTORY_RELEASED,
                InventoryReleased(order_id=order_id, reason=reason),
                key=order_id,
                caused_by=delivery,
            )
    if released:
        await stock_changes.save_with_locked_reservations(uow, ledger, list(released.values()))
    failpoint.hit("inventory.release.before_commit")
    announce_after_commit(context, uow, ledger)


async def lock_or_create_reservations(
    uow: UnitOfWork, reasons: Mapping[UUID, str], now: datetime
) -> dict[UUID, Reservation]:
    """The reservations of these orders, locked. An order without one gets a released one, so that a command which is
    late or on its way meets it.
    """
    reservations = await reservation_table.lock_reservations(uow, reasons)
    missing_reasons = {order_id: reason for order_id, reason in reasons.items() if order_id not in reservations}
    if missing_reasons:
        await reservation_table.insert_released_reservations(uow, missing_reasons, now)
        reservations |= await reservation_table.lock_reservations(uow, missing_reasons)
    return reservations


async def keep_paid_stock(uow: UnitOfWork, deliveries: Sequence[Delivery[OrderProcessed]]) -> None:
    """A paid order keeps its stock until it is shipped, however long that takes."""
    paid_orders = [delivery.message.order_id for delivery in deliveries if delivery.message.outcome == "completed"]
    if paid_orders:
        await reservation_table.clear_expiry(uow, paid_orders)


async def release_expired_reservations(context: InventoryContext) -> bool:
    """Release what was held too long for orders that are not paid."""
    now = context.clock()
    async with context.database.unit_of_work() as uow:
        reservations = await reservation_table.lock_expired_reservations(uow, now, BATCH)
        ledger = await stock_table.lock_stock(uow, {sku for reservation in reservations for sku in reservation.lines})
        for reservation in reservations:
            ledger.release_reservation(reservation, MovementContext(SERVICE, "expired", now, reservation.order_id))
            uow.emit(
                INVENTORY_RELEASED,
                InventoryReleased(order_id=reservation.order_id, reason="expired"),
                key=reservation.order_id,
            )
        if reservations:
            await stock_changes.save_with_locked_reservations(uow, ledger, reservations)
            announce_after_commit(context, uow, ledger)
    return len(reservations) == BATCH
