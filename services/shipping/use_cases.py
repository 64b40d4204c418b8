"""The use cases of shipping: accept commands, dispatch parcels through the carrier, and poll for their delivery. Here
is also what the service keeps in the process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from caravan import failpoint, fault_flags
from caravan.concurrency import map_concurrently
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from caravan.service import ServiceContext
from caravan.telemetry import link_current_span, log
from services.shipping import store
from services.shipping.messages import (
    ORDER_DELIVERED,
    ORDER_SHIPPED,
    SHIPMENT_CANCELLED,
    CancelShipment,
    OrderDelivered,
    OrderShipped,
    ShipOrder,
)
from services.shipping.metrics import PROVIDER_CALLS
from services.shipping.providers.protocol import Carrier
from services.shipping.settings import Settings


@dataclass(slots=True)
class ShippingResources:
    carrier: Carrier


ShippingContext = ServiceContext[Settings, ShippingResources]
T = TypeVar("T")
Item = TypeVar("Item")
BATCH_SIZE = 500
SPARE_SECONDS = 5.0
"""Added to the deadline of a call before a replica takes the shipment over: time to commit the result."""


async def accept_commands(
    context: ShippingContext, uow: UnitOfWork, deliveries: Sequence[Delivery[ShipOrder | CancelShipment]]
) -> None:
    """New shipments first, then what is to be stopped: within a batch both orders of the two end alike."""
    now = context.clock()
    orders: dict[UUID, Delivery[Any]] = {}
    cancellations: dict[UUID, Delivery[Any]] = {}
    for delivery in deliveries:
        match delivery.message:
            case ShipOrder(order_id=order_id):
                orders.setdefault(order_id, delivery)
            case CancelShipment(order_id=order_id):
                cancellations[order_id] = delivery
    if orders:
        await store.insert_shipments(
            uow, list(orders.values()), now + timedelta(seconds=context.settings.pickup_seconds), now
        )
    if cancellations:
        for shipment in await store.cancel_shipments(uow, cancellations, now):
            event = shipment.build_cancel_reply()
            if event is not None:
                channel = ORDER_SHIPPED if isinstance(event, OrderShipped) else SHIPMENT_CANCELLED
                uow.emit(channel, event, key=shipment.order_id, caused_by=cancellations[shipment.order_id])


async def dispatch_parcels(context: ShippingContext) -> bool:
    """The sweeper of pick-ups: mark, call the carrier outside any transaction, record."""
    order_ids = await store.claim_due_pickups(
        context.database, _compute_lease_end(context), context.clock(), BATCH_SIZE
    )
    if not order_ids:
        return False
    failpoint.hit("shipment.before_call")
    carrier = context.resources.carrier
    bookings = await _call_carrier(context, "book", lambda order_id: carrier.book_pickup(str(order_id)), order_ids)
    failpoint.hit("shipment.after_call_before_commit")
    pickups = [(o, b.carrier, b.tracking_number) for o, b in zip(order_ids, bookings, strict=True) if b is not None]
    if pickups:
        now = context.clock()
        delivery_due_at = now + timedelta(seconds=context.settings.delivery_seconds)
        async with context.database.unit_of_work() as uow:
            shipments = await store.mark_shipped(uow, pickups, delivery_due_at, now)
            link_current_span(shipment.traceparent for shipment in shipments)
            for shipment in shipments:
                uow.emit(
                    ORDER_SHIPPED,
                    shipment.build_order_shipped(),
                    key=shipment.order_id,
                    caused_by=shipment.restore_command(now),
                )
    return len(order_ids) == BATCH_SIZE


async def poll_deliveries(context: ShippingContext) -> bool:
    """The sweeper of deliveries: ask the carrier about what may have arrived."""
    shipments = await store.claim_in_transit(context.database, _compute_lease_end(context), context.clock(), BATCH_SIZE)
    carrier = context.resources.carrier
    parcels = [(s.tracking_number, s.shipped_at) for s in shipments if s.shipped_at]
    results = await _call_carrier(context, "track", lambda parcel: carrier.is_delivered(*parcel), parcels)
    delivered_shipments = {s.order_id: s for s, is_delivered in zip(shipments, results, strict=True) if is_delivered}
    if delivered_shipments:
        now = context.clock()
        async with context.database.unit_of_work() as uow:
            link_current_span(shipment.traceparent for shipment in delivered_shipments.values())
            for order_id in await store.mark_delivered(uow, delivered_shipments, now):
                event = OrderDelivered(order_id=order_id, tracking_number=delivered_shipments[order_id].tracking_number)
                uow.emit(
                    ORDER_DELIVERED, event, key=order_id, caused_by=delivered_shipments[order_id].restore_command(now)
                )
    return len(shipments) == BATCH_SIZE


def _compute_lease_end(context: ShippingContext) -> datetime:
    """Until then no other replica calls the carrier about the same shipment."""
    return context.clock() + timedelta(seconds=context.settings.call_timeout_seconds + SPARE_SECONDS)


async def _call_carrier(
    context: ShippingContext, operation: str, call: Callable[[Item], Awaitable[T]], items: Sequence[Item]
) -> list[T | None]:
    """The carrier's answers, several at once; None where there was none: the lease runs out, and it is asked again with
    the same key.
    """

    async def call_with_timeout(item: Item) -> T | None:
        try:
            with PROVIDER_CALLS.observe(operation):
                async with asyncio.timeout(context.settings.call_timeout_seconds):
                    if fault_flags.active:
                        await fault_flags.disturb_provider("shipping")
                    return await call(item)
        except Exception as error:  # whatever went wrong, the carrier may have the parcels
            log.warning("carrier without an answer", error=repr(error))
            return None

    if not items:
        return []
    with PROVIDER_CALLS.observe_batch(operation, len(items)):
        return await map_concurrently(call_with_timeout, items, context.settings.calls_in_flight)
