"""The verbs of shipping: take orders, stop them, hand them to the carrier, see them arrive."""

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from caravan import crash
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from caravan.service import Context
from caravan.telemetry import log
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
from services.shipping.providers import Parts
from services.shipping.settings import Settings

ShippingContext = Context[Settings, Parts]
T = TypeVar("T")
BATCH = 500
SPARE_SECONDS = 5.0
"""Added to the deadline of a call before a replica takes the shipment over: time to commit the result."""


async def take_orders(context: ShippingContext, work: UnitOfWork, deliveries: Sequence[Delivery[ShipOrder | CancelShipment]]) -> None:
    """New shipments first, then what is to be stopped: within a batch both orders of the two end alike."""
    now = context.clock()
    orders: dict[UUID, Delivery[Any]] = {}
    stops: dict[UUID, Delivery[Any]] = {}
    for delivery in deliveries:
        if isinstance(delivery.message, ShipOrder):
            orders.setdefault(delivery.message.order_id, delivery)
        else:
            stops[delivery.message.order_id] = delivery
    if orders:
        await store.request(work, list(orders.values()), now + timedelta(seconds=context.settings.pickup_seconds), now)
    if stops:
        for shipment in await store.cancel(work, stops, now):
            answer = shipment.answer_to_cancel()
            if answer is not None:
                channel = ORDER_SHIPPED if isinstance(answer, OrderShipped) else SHIPMENT_CANCELLED
                work.emit(channel, answer, key=shipment.order_id, due=stops[shipment.order_id])


async def hand_over(context: ShippingContext) -> bool:
    """The sweeper of pick-ups: mark, call the carrier outside any transaction, record."""
    leaving = await store.take_leaving(context.database, _lease(context), context.clock(), BATCH)
    if not leaving:
        return False
    crash.point("shipment.before_call")
    bookings = await _call(context, [context.parts.carrier.book(str(order_id)) for order_id in leaving])
    crash.point("shipment.after_call_before_commit")
    booked = [(o, b.carrier, b.tracking_number) for o, b in zip(leaving, bookings, strict=True) if b is not None]
    if booked:
        now = context.clock()
        arrives = now + timedelta(seconds=context.settings.delivery_seconds)
        async with context.database.work() as work:
            for shipment in await store.ship(work, booked, arrives, now):
                work.emit(ORDER_SHIPPED, shipment.shipped(), key=shipment.order_id, due=shipment.origin(now))
    return len(leaving) == BATCH


async def see_arrivals(context: ShippingContext) -> bool:
    """The sweeper of deliveries: ask the carrier about what may have arrived."""
    travelling = await store.take_travelling(context.database, _lease(context), context.clock(), BATCH)
    carrier = context.parts.carrier
    answers = await _call(context, [carrier.delivered(s.tracking_number, s.shipped_at) for s in travelling if s.shipped_at])
    arrived = {s.order_id: s for s, there in zip(travelling, answers, strict=True) if there}
    if arrived:
        now = context.clock()
        async with context.database.work() as work:
            for order_id in await store.deliver(work, arrived, now):
                event = OrderDelivered(order_id=order_id, tracking_number=arrived[order_id].tracking_number)
                work.emit(ORDER_DELIVERED, event, key=order_id, due=arrived[order_id].origin(now))
    return len(travelling) == BATCH


def _lease(context: ShippingContext) -> datetime:
    """Until then no other replica calls the carrier about the same shipment."""
    return context.clock() + timedelta(seconds=context.settings.call_seconds + SPARE_SECONDS)


async def _call(context: ShippingContext, calls: Sequence[Awaitable[T]]) -> list[T | None]:
    """The carrier's answers, several at once; None where there was none: the lease runs out, and it is asked again with the same key."""
    room = asyncio.Semaphore(context.settings.calls_in_flight)

    async def one(call: Awaitable[T]) -> T | None:
        async with room:
            try:
                async with asyncio.timeout(context.settings.call_seconds):
                    return await call
            except Exception as error:  # whatever went wrong, the carrier may have the parcels
                log.warning("carrier without an answer", error=repr(error))
                return None

    return list(await asyncio.gather(*(one(call) for call in calls)))
