"""Shipping: once per order, stopped only before the carrier is called, and nobody else's business."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from caravan.clock import new_id
from caravan.errors import NotFound
from caravan.runtime import Backends
from caravan.service import Service
from services.orders.client import GET_ORDER_OWNER, OrderOwner, OrderOwnerRequest
from services.shipping import store
from services.shipping.messages import SHIP_ORDER, CancelShipment, Parcel, ShipOrder
from tests.support.shop import Shop, run_services, wait_until

OWNERS: dict[UUID, UUID] = {}


async def owner(_: Any, request: OrderOwnerRequest) -> OrderOwner:
    if request.order_id not in OWNERS:
        raise NotFound(f"no order {request.order_id}")
    return OrderOwner(user_id=OWNERS[request.order_id])


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIPPING_PICKUP_SECONDS", "0.1")
        patch.setenv("SHIPPING_DELIVERY_SECONDS", "0.1")
        async with run_services(
            backends, "shipping", extra_services=(Service("orders", operations=(GET_ORDER_OWNER.bind(owner),)),)
        ) as shop:
            yield shop


def order(order_id: UUID | None = None) -> ShipOrder:
    parcels = [Parcel(sku="MUG", quantity=2)]
    return ShipOrder(
        order_id=order_id or new_id(),
        email="ada@example.com",
        recipient="Ada",
        address="1 Road, London",
        parcels=parcels,
    )


async def send(shop: Shop, *messages: ShipOrder | CancelShipment) -> None:
    async with shop.get_database("shipping").unit_of_work() as uow:
        for message in messages:
            uow.emit(SHIP_ORDER, message, key=message.order_id)


async def wait_for(shop: Shop, order_id: UUID, topic: str, count: int = 1) -> list[dict[str, Any]]:
    async def there() -> list[dict[str, Any]] | None:
        found = [envelope["data"] for envelope in await shop.read_topic(topic, order_id)]
        shop.get_context("shipping").wake("dispatch-parcels")
        shop.get_context("shipping").wake("poll-deliveries")
        return found if len(found) >= count else None

    found = await wait_until(there)
    assert found is not None
    return found


async def status(shop: Shop, order_id: UUID) -> str | None:
    answer = await shop.client.get(f"/v1/shipments/{order_id}", headers=shop.issue_headers("staff"))
    return answer.json()["status"] if answer.status_code == 200 else None


async def test_an_order_is_shipped_and_then_delivered_once_however_often_it_is_asked_for(shop: Shop) -> None:
    command = order()
    await send(shop, *[command] * 5)
    [delivered] = await wait_for(shop, command.order_id, "order-delivered")
    await send(shop, command)
    other = order()
    await send(shop, other)
    await wait_for(shop, other.order_id, "order-delivered")  # by then the repeated one was handled, too
    [shipped] = await wait_for(shop, command.order_id, "order-shipped")
    assert shipped["email"] == "ada@example.com"
    assert shipped["parcels"] == [{"sku": "MUG", "quantity": 2}]
    assert shipped["tracking_number"] == delivered["tracking_number"]
    assert len(await shop.read_topic("order-delivered", command.order_id)) == 1


async def test_a_shipment_is_stopped_before_the_pick_up(shop: Shop) -> None:
    command = order()
    await send(shop, command, CancelShipment(order_id=command.order_id))
    await wait_for(shop, command.order_id, "shipment-cancelled")
    await later_ones_are_delivered(shop)
    assert await shop.read_topic("order-shipped", command.order_id) == []
    assert await status(shop, command.order_id) == "cancelled"


async def test_a_stop_that_comes_before_the_order_holds(shop: Shop) -> None:
    command = order()
    await send(shop, CancelShipment(order_id=command.order_id))
    await wait_for(shop, command.order_id, "shipment-cancelled")
    await send(shop, command)
    await later_ones_are_delivered(shop)
    assert await shop.read_topic("order-shipped", command.order_id) == []
    assert await status(shop, command.order_id) == "cancelled"
    await send(shop, CancelShipment(order_id=command.order_id))
    assert len(await wait_for(shop, command.order_id, "shipment-cancelled", 2)) == 2


async def later_ones_are_delivered(shop: Shop) -> None:
    """By then everything sent before would have left, too."""
    later = order()
    await send(shop, later)
    await wait_for(shop, later.order_id, "order-delivered")


async def test_a_stop_that_comes_too_late_is_answered_with_the_shipment_again(shop: Shop) -> None:
    command = order()
    await send(shop, command)
    await wait_for(shop, command.order_id, "order-delivered")
    await send(shop, CancelShipment(order_id=command.order_id))
    shipped = await wait_for(shop, command.order_id, "order-shipped", 2)
    assert shipped[0] == shipped[1]
    assert await shop.read_topic("shipment-cancelled", command.order_id) == []


async def test_a_stop_during_the_call_to_the_carrier_is_answered_by_what_the_carrier_says(shop: Shop) -> None:
    carrier, began, go_on = shop.get_context("shipping").resources.carrier, asyncio.Event(), asyncio.Event()
    command = order()

    class Slow:
        is_delivered = carrier.is_delivered

        async def book_pickup(self, key: str) -> Any:
            if key == str(command.order_id):
                began.set()
                await go_on.wait()
            return await carrier.book_pickup(key)

    shop.get_context("shipping").resources.carrier = Slow()
    try:
        await send(shop, command)
        await began.wait()
        await send(shop, CancelShipment(order_id=command.order_id))
        await wait_until(lambda: shop.get_database("shipping").fetchval("SELECT count(*) = 0 FROM outbox"))
        go_on.set()
        await wait_for(shop, command.order_id, "order-shipped")
    finally:
        go_on.set()
        shop.get_context("shipping").resources.carrier = carrier
    assert await shop.read_topic("shipment-cancelled", command.order_id) == []


async def test_a_booking_that_nobody_finished_is_taken_up_with_the_same_tracking_number(shop: Shop) -> None:
    command, database, clock = order(), shop.get_database("shipping"), shop.get_context("shipping").clock
    await database.fetch(
        "INSERT INTO shipment (order_id, status, due_at, requested_at) VALUES ($1, 'booking', $2, $2)",
        command.order_id,
        clock(),
    )
    booking = await shop.get_context("shipping").resources.carrier.book_pickup(str(command.order_id))
    [shipped] = await wait_for(shop, command.order_id, "order-shipped")
    assert shipped["tracking_number"] == booking.tracking_number
    async with database.unit_of_work() as uow:
        assert await store.mark_shipped(uow, [(command.order_id, "other", "other")], clock(), clock()) == []


async def test_the_owner_and_staff_see_a_shipment_and_nobody_else(shop: Shop) -> None:
    command, user_id = order(), new_id()
    OWNERS[command.order_id] = user_id
    await send(shop, command)
    await wait_for(shop, command.order_id, "order-shipped")
    path = f"/v1/shipments/{command.order_id}"
    shown = (await shop.client.get(path, headers=shop.issue_headers(user_id=user_id))).json()
    assert shown["carrier"] == "Caravan Post"
    assert (await shop.client.get(path, headers=shop.issue_headers("staff"))).status_code == 200
    assert (await shop.client.get(path, headers=shop.issue_headers())).status_code == 404
    assert (await shop.client.get(path)).status_code == 401
    assert (await shop.client.get(f"/v1/shipments/{new_id()}", headers=shop.issue_headers("staff"))).status_code == 404
    assert (await shop.client.get("/v1/shipments/1", headers=shop.issue_headers("staff"))).status_code == 422
