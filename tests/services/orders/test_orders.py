"""Orders through HTTP, with stand-ins for catalog and inventory, and the outcomes reported as other services would
report them.
"""

import asyncio
from typing import Any

import asyncpg

from caravan.clock import new_id
from caravan.runtime import Backends
from tests.services.orders.neighbours import create_order, make_order_body, neighbours, place_order
from tests.support.shop import Shop, wait_until


async def test_an_order_is_accepted_announced_once_and_readable_at_its_location(shop: Shop) -> None:
    user = new_id()
    answer = await place_order(shop, user, make_order_body(("MUG", 2), ("LAMP", 1)))
    assert answer.status_code == 202, answer.text
    document = (await shop.client.get(answer.headers["location"], headers=shop.issue_headers("customer", user))).json()
    assert (document["status"], document["total"], document["version"]) == (
        "created",
        {"amount": 3499, "currency": "GBP"},
        1,
    )

    async def on_topic() -> list[dict[str, Any]]:
        return await shop.read_topic("order-created", answer.json()["id"])

    envelope = (await wait_until(on_topic))[0]
    assert envelope["type"] == "orders.OrderCreated"
    assert envelope["subject"] == answer.json()["id"]
    assert envelope["data"]["total"] == {"amount": 3499, "currency": "GBP"}


async def test_fifty_parallel_requests_with_one_key_make_one_order_and_fifty_equal_answers(shop: Shop) -> None:
    user, key = new_id(), str(new_id())
    answers = await asyncio.gather(*(place_order(shop, user, make_order_body(("MUG", 1)), key) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    stored = await shop.get_database("orders").fetchval(
        "SELECT count(*) FROM event WHERE data->>'user_id' = $1", str(user)
    )
    assert stored == 1


async def test_the_key_of_another_body_is_refused(shop: Shop) -> None:
    user, key = new_id(), str(new_id())
    assert (await place_order(shop, user, make_order_body(("MUG", 1)), key)).status_code == 202
    assert (await place_order(shop, user, make_order_body(("MUG", 2)), key)).status_code == 422


async def test_a_key_whose_request_has_not_finished_answers_in_flight(shop: Shop, backends: Backends) -> None:
    user, key = new_id(), str(new_id())
    other = await asyncpg.connect(backends.get_database_url("orders"))
    await shop.get_database("orders").fetch("SET lock_timeout = '100ms'")
    transaction = other.transaction()
    await transaction.start()
    try:
        await other.execute(
            "INSERT INTO idempotency VALUES ($1, $2, '', 202, '{}', '', now() + interval '1 day')",
            f"{user} POST /v1/orders",
            key,
        )
        answer = await place_order(shop, user, make_order_body(("MUG", 1)), key)
        assert answer.status_code == 409
        assert answer.headers["retry-after"] == "1"
    finally:
        await transaction.rollback()
        await other.close()
    assert (await place_order(shop, user, make_order_body(("MUG", 1)), key)).status_code == 202


async def test_inventory_away_is_no_reason_to_refuse(shop: Shop) -> None:
    neighbours.is_unavailable = True
    try:
        assert (await place_order(shop, new_id(), make_order_body(("GONE", 1)))).status_code == 202
    finally:
        neighbours.is_unavailable = False


async def test_an_accepted_order_takes_at_most_twelve_statements(shop: Shop) -> None:
    from caravan.telemetry.metrics import STATEMENTS

    user = new_id()
    await create_order(shop, user)
    statements = STATEMENTS.labels("orders")
    orders = shop.get_context("orders")
    before = statements._value.get()
    answer = await place_order(shop, user, make_order_body(("MUG", 1), ("LAMP", 1)))
    assert answer.status_code == 202
    used = statements._value.get() - before
    assert orders.service == "orders"
    assert used <= 12 - 3, f"{used} in orders; identity, catalog and inventory use one each"
