"""Orders' stock: reserved once and never twice, given back, shipped, expired; whatever comes twice, late or in the
wrong order.
"""

import asyncio
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import Counter

from caravan.clock import new_id, utc_now
from caravan.database import Database
from caravan.messages import Delivery
from caravan.money import Money
from caravan.runtime import Backends, list_subscriptions
from services.inventory import consumers
from services.inventory.messages import RELEASE_STOCK, RESERVE_STOCK, ReleaseStock, ReserveStock, StockLine
from services.inventory.store import stock_table
from services.orders.messages import ORDERS, OrderCancelled
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.shipping.messages import ORDER_SHIPPED, OrderShipped, Parcel
from tests.support.shop import Shop, run_services, wait_until

TOPICS = ("inventory-reserved", "inventory-rejected", "inventory-released")


async def received(shop: Shop, quantity: int) -> str:
    sku = f"R-{new_id().hex[-12:]}"
    answer = await shop.client.post(
        f"/v1/stock/{sku}/movements",
        json={"kind": "receive", "quantity": quantity},
        headers=shop.issue_headers("staff"),
    )
    assert answer.status_code == 201, answer.text
    return sku


async def numbers(shop: Shop, sku: str) -> tuple[int, int, int]:
    """On hand, reserved, shipped."""
    row = (
        (await shop.client.get(f"/v1/stock/{sku}/balance", headers=shop.issue_headers("staff")))
        .raise_for_status()
        .json()
    )
    return row["on_hand"], row["reserved"], row["shipped"]


async def answers(shop: Shop, order: UUID) -> list[str]:
    return [topic.removeprefix("inventory-") for topic in TOPICS for _ in await shop.read_topic(topic, order)]


async def answered(shop: Shop, order: UUID, *expected: str) -> None:
    async def check() -> bool:
        assert await answers(shop, order) == list(expected)
        return True

    await wait_until(check)


async def ask(shop: Shop, order: UUID, *lines: tuple[str, int], identifier: UUID | None = None) -> None:
    command = ReserveStock(order_id=order, lines=[StockLine(sku=sku, quantity=quantity) for sku, quantity in lines])
    await shop.send_message("inventory", RESERVE_STOCK, command, key=order, message_id=identifier)


async def receive_return(shop: Shop, order: UUID, identifier: UUID | None = None) -> None:
    await shop.send_message(
        "inventory",
        RELEASE_STOCK,
        ReleaseStock(order_id=order, reason="payment failed"),
        key=order,
        message_id=identifier,
    )


async def left(shop: Shop, order: UUID, *lines: tuple[str, int], identifier: UUID | None = None) -> None:
    parcels = [Parcel(sku=sku, quantity=quantity) for sku, quantity in lines]
    shipped = OrderShipped(order_id=order, email="a@example.com", carrier="post", tracking_number="T1", parcels=parcels)
    await shop.send_message("inventory", ORDER_SHIPPED, shipped, key=order, message_id=identifier)


async def test_all_lines_are_reserved_or_none(shop: Shop) -> None:
    mug, lamp = await received(shop, 5), await received(shop, 1)
    one, two = new_id(), new_id()
    await ask(shop, one, (mug, 2), (lamp, 1))
    await answered(shop, one, "reserved")
    await ask(shop, two, (mug, 2), (lamp, 1), ("NEVER-HEARD-OF", 3))
    await answered(shop, two, "rejected")
    assert await numbers(shop, mug) == (5, 2, 0)
    assert await numbers(shop, lamp) == (1, 1, 0)
    shortages = (await shop.read_topic("inventory-rejected", two))[0]["data"]["shortages"]
    assert shortages == [
        {"sku": lamp, "wanted": 1, "available": 0},
        {"sku": "NEVER-HEARD-OF", "wanted": 3, "available": 0},
    ]


async def test_of_200_orders_for_the_last_unit_exactly_one_gets_it(shop: Shop) -> None:
    sku = await received(shop, 1)
    orders = [new_id() for _ in range(200)]
    sampled: list[tuple[int, int, int]] = []

    async def sample() -> None:
        while True:
            sampled.append(await numbers(shop, sku))
            await asyncio.sleep(0)

    sampler = asyncio.create_task(sample())
    await asyncio.gather(*(ask(shop, order, (sku, 1)) for order in orders))

    async def all_answered() -> bool:
        rows = await shop.embedded_bus.database.fetch(
            "SELECT topic FROM topic_log WHERE topic = ANY($1) AND key = ANY($2)",
            list(TOPICS),
            [str(o) for o in orders],
        )
        assert len(rows) == 200
        topics = [row[0] for row in rows]
        return topics.count("inventory-reserved") == 1 and topics.count("inventory-rejected") == 199

    await wait_until(all_answered)
    sampler.cancel()
    assert await numbers(shop, sku) == (1, 1, 0)
    assert all(0 <= reserved <= on_hand for on_hand, reserved, _ in sampled)


async def test_what_comes_five_times_counts_once(shop: Shop) -> None:
    sku, order = await received(shop, 5), new_id()
    for step, expected, after in ((ask, ["reserved"], (5, 2, 0)), (left, ["reserved"], (3, 0, 2))):
        identifier = new_id()
        await asyncio.gather(*(step(shop, order, (sku, 2), identifier=identifier) for _ in range(5)))

        async def settled(expected: list[str] = expected, after: Any = after) -> bool:
            return await answers(shop, order) == expected and await numbers(shop, sku) == after

        await wait_until(settled)
    await shop.send_message(
        "inventory",
        ORDERS,
        OrderCancelled(order_id=order, user_id=new_id(), email="a@example.com", reason="late", refunded=None),
        key=order,
    )
    await asyncio.gather(*(receive_return(shop, order) for _ in range(5)))
    await answered(shop, order, "reserved", *["released"] * 5)
    assert await numbers(shop, sku) == (3, 0, 2)
    assert await stock_table.find_violations(shop.get_database("inventory")) == []


async def test_a_repeated_order_gets_its_answer_again(shop: Shop) -> None:
    sku, served, refused = await received(shop, 1), new_id(), new_id()
    await ask(shop, served, (sku, 1))
    await answered(shop, served, "reserved")
    await ask(shop, refused, (sku, 1))
    await answered(shop, refused, "rejected")
    await shop.client.post(
        f"/v1/stock/{sku}/movements", json={"kind": "receive", "quantity": 9}, headers=shop.issue_headers("staff")
    )
    await ask(shop, served, (sku, 1))
    await ask(shop, refused, (sku, 1))
    await answered(shop, served, "reserved", "reserved")
    await answered(shop, refused, "rejected", "rejected")
    assert await numbers(shop, sku) == (10, 1, 0)


async def test_a_release_gives_the_units_back_and_one_that_comes_first_lets_nothing_be_reserved(shop: Shop) -> None:
    sku, order, cancelled = await received(shop, 3), new_id(), new_id()
    await ask(shop, order, (sku, 3))
    await answered(shop, order, "reserved")
    await receive_return(shop, order)
    await answered(shop, order, "reserved", "released")
    await receive_return(shop, cancelled)
    await answered(shop, cancelled, "released")
    await ask(shop, cancelled, (sku, 1))
    await answered(shop, cancelled, "released", "released")
    assert await numbers(shop, sku) == (3, 0, 0)


async def test_the_announcement_of_a_cancelled_order_releases_what_is_still_held(shop: Shop) -> None:
    sku, order = await received(shop, 3), new_id()
    await ask(shop, order, (sku, 3))
    await answered(shop, order, "reserved")
    await shop.send_message(
        "inventory",
        ORDERS,
        OrderCancelled(order_id=order, user_id=new_id(), email="a@example.com", reason="mind changed", refunded=None),
        key=order,
    )
    await answered(shop, order, "reserved", "released")
    assert await numbers(shop, sku) == (3, 0, 0)


async def test_a_parcel_that_left_after_the_release_takes_free_units_and_never_others(shop: Shop) -> None:
    sku, late, other = await received(shop, 3), new_id(), new_id()
    await ask(shop, late, (sku, 2))
    await answered(shop, late, "reserved")
    await receive_return(shop, late)
    await answered(shop, late, "reserved", "released")
    await ask(shop, other, (sku, 2))
    await answered(shop, other, "reserved")
    await left(shop, late, (sku, 2))

    async def taken() -> bool:
        return await numbers(shop, sku) == (2, 2, 1)

    await wait_until(taken)

    async def short() -> list[dict[str, Any]]:
        records = [envelope["data"] for envelope in await shop.read_topic("audit", f"stock:{sku}")]
        return [record for record in records if record["action"] == "stock.short"]

    audited = (await wait_until(short))[0]
    assert audited["details"] == {"order_id": str(late), "wanted": 2, "free": 1}
    assert await stock_table.find_violations(shop.get_database("inventory")) == []


async def test_a_reservation_expires_unless_the_order_is_paid(backends: Backends) -> None:
    now = utc_now()
    async with run_services(backends, "inventory", clock=lambda: now) as shop:
        sku, unpaid, paid = await received(shop, 5), new_id(), new_id()
        await ask(shop, unpaid, (sku, 1))
        await ask(shop, paid, (sku, 2))
        await answered(shop, unpaid, "reserved")
        await answered(shop, paid, "reserved")
        outcome = OrderProcessed(
            order_id=paid,
            user_id=new_id(),
            email="a@example.com",
            outcome="completed",
            reason="",
            total=Money(amount=1, currency="GBP"),
        )
        await shop.send_message("inventory", ORDER_PROCESSED, outcome, key=paid)

        async def kept() -> bool:
            return (
                await shop.get_database("inventory").fetchval(
                    "SELECT expires_at IS NULL FROM reservation WHERE order_id = $1", paid
                )
                is True
            )

        await wait_until(kept)
        now += timedelta(minutes=16)
        shop.process._wake_events["inventory.release-expired"].set()
        await answered(shop, unpaid, "reserved", "released")
        assert (await shop.read_topic("inventory-released", unpaid))[0]["data"]["reason"] == "expired"
        assert await numbers(shop, sku) == (5, 2, 0)


async def test_random_histories_with_doubles_end_lawful(shop: Shop) -> None:
    chance = random.Random(7)
    skus = [await received(shop, 30) for _ in range(4)]
    wishes = {new_id(): [(sku, chance.randint(1, 4)) for sku in chance.sample(skus, 2)] for _ in range(60)}
    for order, lines in wishes.items():
        identifier = new_id()
        for _ in range(chance.randint(1, 3)):
            await ask(shop, order, *lines, identifier=identifier)
        fate = chance.random()
        if fate < 0.4:
            await receive_return(shop, order)
        elif fate < 0.8:
            await left(shop, order, *lines)

    async def at_rest() -> bool:
        if await shop.get_database("inventory").fetchval("SELECT count(*) FROM outbox"):
            return False
        return sum((await shop.process.bus.measure_lag(list_subscriptions(shop.process.services))).values()) == 0

    await wait_until(at_rest)
    assert await stock_table.find_violations(shop.get_database("inventory")) == []


@pytest.mark.parametrize("orders", [1, 100])
async def test_a_batch_takes_as_many_statements_as_one_order(shop: Shop, orders: int) -> None:
    sku = await received(shop, 10_000)
    context = shop.get_context("inventory")

    def delivery() -> Delivery[ReserveStock]:
        order = new_id()
        return Delivery(
            ReserveStock(order_id=order, lines=[StockLine(sku=sku, quantity=1)]),
            new_id(),
            str(order),
            utc_now(),
            None,
            None,
        )

    batch = [delivery() for _ in range(orders)]
    database = Database("inventory", context.database.pool)
    database.statement_counter = Counter("statements_of_a_batch", "Of this test alone", registry=None)
    async with database.unit_of_work() as uow:
        await consumers.reserve_stock(context, uow, batch)
    assert await numbers(shop, sku) == (10_000, orders, 0)
    assert database.statement_counter._value.get() == 6, "begin, reservations, stock, all writes, messages, commit"
