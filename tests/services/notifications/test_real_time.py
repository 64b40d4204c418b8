"""How soon people are told: an order's outcome within two seconds, each kind of order's mail within ten, with every
other service down and over public messages alone.
"""

import ast
import time
from pathlib import Path
from typing import Any

import services.notifications as package
from caravan.clock import new_id
from caravan.messages import Exchange, Topic
from services.orders.messages import ORDERS, OrderCancelled
from services.processing.messages import ORDER_PROCESSED
from services.shipping.messages import ORDER_SHIPPED, OrderShipped
from tests.services.notifications.conftest import GBP, Carrier, order_processed
from tests.support.shop import Shop, wait_until

NUMBER, MAX_P95_SECONDS, MAX_SECONDS = 60, 2.0, 10.0


async def measure_delay(shop: Shop, carrier: Carrier, channel: Topic | Exchange, message: Any, kind: str) -> float:
    """From the publishing of an event to the provider's call."""
    began, order_id = time.perf_counter(), message.order_id
    await shop.send_message("notifications", channel, message, key=order_id)

    async def is_sent() -> bool:
        return any(sent.kind == kind and sent.dedup_key == str(order_id) for sent in carrier.messages)

    await wait_until(is_sent, seconds=30, every=0.005)
    return time.perf_counter() - began


async def test_an_orders_outcome_is_told_within_two_seconds(shop: Shop, carrier: Carrier) -> None:
    """One after the other: each pays for the lingering of a batch that stays alone."""
    delays = sorted(
        [
            await measure_delay(shop, carrier, ORDER_PROCESSED, order_processed(new_id(), new_id()), "order_confirmed")
            for _ in range(NUMBER)
        ]
    )
    assert delays[int(NUMBER * 0.95)] <= MAX_P95_SECONDS, delays[-10:]


async def test_each_kind_of_an_orders_mail_comes_within_ten_seconds(shop: Shop, carrier: Carrier) -> None:
    shipped = OrderShipped(
        order_id=new_id(),
        email="ada@example.com",
        carrier="Caravan Post",
        tracking_number="CP1",
        parcels=[],
    )
    cancelled = OrderCancelled(
        order_id=new_id(), user_id=new_id(), email="ada@example.com", reason="asked", refunded=GBP
    )
    failed = order_processed(new_id(), new_id(), "payment_failed", "card_declined")
    rejected = order_processed(new_id(), new_id(), "rejected", "out of stock")
    for channel, message, kind in (
        (ORDER_PROCESSED, failed, "payment_failed"),
        (ORDER_PROCESSED, rejected, "order_rejected"),
        (ORDER_SHIPPED, shipped, "order_shipped"),
        (ORDERS, cancelled, "order_cancelled"),
    ):
        assert await measure_delay(shop, carrier, channel, message, kind) <= MAX_SECONDS, kind


def test_it_knows_other_services_by_their_messages_and_asks_recommendations_alone() -> None:
    asked = set()
    for path in Path(package.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("services."):
                _, service, *module = node.module.split(".")
                if service != "notifications" and module != ["messages"]:
                    asked.add(node.module)
    assert asked == {"services.recommendations.client"}
