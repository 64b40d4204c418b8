"""Book out the stock of shipped parcels."""

from collections.abc import Sequence
from uuid import UUID

from caravan import failpoint
from caravan.audit import record_audit
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from caravan.telemetry import log
from services.inventory.model import MovementContext, Reservation
from services.inventory.store import stock_changes, stock_table
from services.inventory.use_cases import SERVICE, InventoryContext, announce_after_commit, sum_quantities
from services.inventory.use_cases.release import lock_or_create_reservations
from services.shipping.messages import OrderShipped


async def ship_stock(context: InventoryContext, uow: UnitOfWork, deliveries: Sequence[Delivery[OrderShipped]]) -> None:
    """The parcels have left: what was held is gone. An order without a reservation takes what is free, and what is
    missing becomes a finding.
    """
    now = context.clock()
    reservations = await lock_or_create_reservations(
        uow, {delivery.message.order_id: "shipped without a reservation" for delivery in deliveries}, now
    )
    shipments: dict[UUID, tuple[Reservation, Delivery[OrderShipped]]] = {}
    for delivery in deliveries:
        order_id = delivery.message.order_id
        reservation = reservations[order_id]
        if reservation.state == "shipped":
            continue
        if not reservation.lines:
            reservation.lines = sum_quantities(order_id, delivery.message.parcels)
        shipments.setdefault(order_id, (reservation, delivery))
    ledger = await stock_table.lock_stock(
        uow, {sku for reservation, _ in shipments.values() for sku in reservation.lines}
    )
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
        await stock_changes.save_with_locked_reservations(
            uow, ledger, [reservation for reservation, _ in shipments.values()]
        )
    failpoint.hit("inventory.ship.before_commit")
    announce_after_commit(context, uow, ledger)
