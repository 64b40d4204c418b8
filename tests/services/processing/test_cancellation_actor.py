"""Who cancelled an order has undone it, whichever message makes the next step possible."""

from datetime import UTC, datetime

import pytest

from caravan import telemetry
from caravan.clock import new_id
from caravan.messages import Channel, Message
from caravan.money import Money
from caravan.runtime import Backends
from services.inventory.messages import INVENTORY_RELEASED, INVENTORY_RESERVED, InventoryReleased, InventoryReserved
from services.orders.messages import ORDER_CREATED, Address, OrderCreated
from services.orders.model import OfferedProduct, create_order
from services.processing.messages import CANCEL_ORDER, CancelOrder
from tests.support.shop import Shop, run_services, wait_until

CUSTOMER, ADMIN = "customer:ada", "admin:grace"


async def send_as(shop: Shop, actor: str, channel: Channel, message: Message, key: object) -> None:
    token = telemetry.actor.set(actor)
    try:
        await shop.send_message("processing", channel, message, key=key)
    finally:
        telemetry.actor.reset(token)


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_what_an_admin_cancels_is_undone_in_their_name(backends: Backends, cancelled_first: bool) -> None:
    order_id, price = new_id(), Money(amount=1250, currency="GBP")
    address = Address(name="Ada", street="12 St James's Square", city="London", postcode="SW1Y 4JH", country="GB")
    lines = [(OfferedProduct("MUG", "Mug", "all", price), 1)]
    created = create_order(order_id, new_id(), "ada@example.com", "Ada", lines, address, "card", datetime.now(UTC))
    assert isinstance(created, OrderCreated)
    cancel = CancelOrder(order_id=order_id, reason="fraud")
    async with run_services(backends, "processing") as shop:
        if cancelled_first:
            await send_as(shop, ADMIN, CANCEL_ORDER, cancel, order_id)
        else:
            await send_as(shop, CUSTOMER, ORDER_CREATED, created, order_id)
            asked = (await wait_until(lambda: shop.read_queue("inventory.reserve-stock", order_id)))[0]
            assert asked["actor"] == CUSTOMER
            await send_as(shop, ADMIN, CANCEL_ORDER, cancel, order_id)
            database = shop.get_database("processing")
            await wait_until(lambda: database.fetchval("SELECT cancel FROM saga WHERE order_id = $1", order_id))
            await send_as(shop, CUSTOMER, INVENTORY_RESERVED, InventoryReserved(order_id=order_id), order_id)
            released = (await wait_until(lambda: shop.read_queue("inventory.release-stock", order_id)))[0]
            assert released["actor"] == ADMIN
            await send_as(
                shop, CUSTOMER, INVENTORY_RELEASED, InventoryReleased(order_id=order_id, reason="fraud"), order_id
            )
        if cancelled_first:
            database = shop.get_database("processing")
            await wait_until(lambda: database.fetchval("SELECT cancel FROM saga WHERE order_id = $1", order_id))
            await send_as(shop, CUSTOMER, ORDER_CREATED, created, order_id)
        for topic in ("order-processed", "order-undone"):
            [envelope] = await wait_until(lambda topic=topic: shop.read_topic(topic, order_id))  # type: ignore[misc]
            assert envelope["actor"] == ADMIN, topic
