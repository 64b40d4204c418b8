"""Orders through HTTP, with stand-ins for catalog and inventory, and the outcomes reported as other services would
report them.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from caravan.clock import new_id
from caravan.errors import ServiceUnavailable
from caravan.money import Money
from caravan.runtime import Backends
from caravan.service import Service
from services.catalog.client import GET_OFFERS, Offer, Offers
from services.inventory.client import GET_AVAILABILITY, Availabilities, Availability
from services.inventory.messages import INVENTORY_RESERVED, InventoryReserved
from services.orders import projections
from services.orders.store import projection, summaries
from services.payments.messages import PAYMENT_COMPLETED, PaymentCompleted
from services.processing.messages import ORDER_UNDONE, CancellationRefused, OrderUndone
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, OrderDelivered, OrderShipped
from tests.support.shop import Shop, run_services, wait_until


class Neighbours:
    """Catalog and inventory as far as orders sees them."""

    stock: dict[str, int] = {"MUG": 10**6, "LAMP": 10**6, "GONE": 0}
    is_unavailable = False

    async def offers(self, _: Any, request: Any) -> Offers:
        known = {"MUG": 1250, "LAMP": 999, "GONE": 1}
        dear = {sku: 10**9 for sku in request.skus if sku.startswith("DEAR")}
        offers = [
            Offer(sku=sku, name=sku.title(), category="all", price=Money(amount=price, currency="GBP"))
            for sku, price in (known | dear).items()
            if sku in request.skus
        ]
        long = [sku for sku in request.skus if sku.startswith("LONG")]
        offers += [
            Offer(sku=sku, name="\U0001f9e6" * 200, category="c" * 60, price=Money(amount=1, currency="GBP"))
            for sku in long
        ]
        return Offers(offers=offers)

    async def availability(self, _: Any, request: Any) -> Availabilities:
        if self.is_unavailable:
            raise ServiceUnavailable("inventory is away")
        stock = self.stock | {sku: 10**6 for sku in request.skus if sku.startswith(("DEAR", "LONG"))}
        found = [sku for sku in request.skus if sku in stock]
        return Availabilities(
            stock=[Availability(sku=sku, on_hand=stock[sku], reserved=0, available=stock[sku]) for sku in found]
        )


neighbours = Neighbours()
ADDRESS = {
    "name": "Ada Lovelace",
    "street": "12 St James's Square",
    "city": "London",
    "postcode": "SW1Y 4JH",
    "country": "GB",
}


def order(*lines: tuple[str, int]) -> dict[str, Any]:
    return {
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines],
        "shipping_address": ADDRESS,
        "payment": {"method": "card", "token": "tok_ok"},
    }


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    catalog = Service("catalog", operations=(GET_OFFERS.bind(neighbours.offers),))
    inventory = Service("inventory", operations=(GET_AVAILABILITY.bind(neighbours.availability),))
    async with run_services(backends, "orders", extra_services=(catalog, inventory)) as shop:
        yield shop


async def place(shop: Shop, user: UUID, body: dict[str, Any], key: str | None = None) -> Any:
    return await shop.client.post(
        "/v1/orders",
        json=body,
        headers={**shop.issue_headers("customer", user), "Idempotency-Key": key or str(new_id())},
    )


async def placed(shop: Shop, user: UUID) -> str:
    return str((await place(shop, user, order(("MUG", 2)))).json()["id"])


async def test_an_order_is_accepted_announced_once_and_readable_at_its_location(shop: Shop) -> None:
    user = new_id()
    answer = await place(shop, user, order(("MUG", 2), ("LAMP", 1)))
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
    answers = await asyncio.gather(*(place(shop, user, order(("MUG", 1)), key) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    stored = await shop.get_database("orders").fetchval(
        "SELECT count(*) FROM event WHERE data->>'user_id' = $1", str(user)
    )
    assert stored == 1


async def test_the_key_of_another_body_is_refused(shop: Shop) -> None:
    user, key = new_id(), str(new_id())
    assert (await place(shop, user, order(("MUG", 1)), key)).status_code == 202
    assert (await place(shop, user, order(("MUG", 2)), key)).status_code == 422


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
        answer = await place(shop, user, order(("MUG", 1)), key)
        assert answer.status_code == 409
        assert answer.headers["retry-after"] == "1"
    finally:
        await transaction.rollback()
        await other.close()
    assert (await place(shop, user, order(("MUG", 1)), key)).status_code == 202


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"lines": []}, 422, "lines"),
        ({"lines": [{"sku": "MUG", "quantity": 0}]}, 422, "lines.0.quantity"),
        ({"lines": [{"sku": "MUG", "quantity": -1}]}, 422, "lines.0.quantity"),
        ({"lines": [{"sku": "MUG", "quantity": 10**9}]}, 422, "lines.0.quantity"),
        ({"lines": [{"sku": "MUG", "quantity": "2"}]}, 422, "lines.0.quantity"),
        ({"lines": [{"sku": "MUG", "quantity": 1, "price": 1}]}, 422, "lines.0.price"),
        ({"lines": [{"sku": "MUG", "quantity": 1}, {"sku": "MUG", "quantity": 1}]}, 422, "lines.1.sku"),
        ({"lines": [{"sku": "NOPE", "quantity": 1}]}, 422, "lines.0.sku"),
        ({"lines": [{"sku": "GONE", "quantity": 1}]}, 409, "lines.0.quantity"),
        ({"total": 1}, 422, "total"),
        ({"payment": {"method": "card", "token": "tok\u0000"}}, 422, "payment.token"),
    ],
)
async def test_a_bad_order_is_refused_by_field_and_writes_nothing(
    shop: Shop, change: dict[str, Any], status: int, field: str
) -> None:
    user = new_id()
    answer = await place(shop, user, {**order(("MUG", 1)), **change})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field
    assert (
        await shop.get_database("orders").fetchval("SELECT count(*) FROM event WHERE data->>'user_id' = $1", str(user))
        == 0
    )


async def test_an_order_without_a_key_and_broken_json_are_bad_requests(shop: Shop) -> None:
    headers = shop.issue_headers()
    assert (await shop.client.post("/v1/orders", json=order(("MUG", 1)), headers=headers)).status_code == 400
    assert (
        await shop.client.post(
            "/v1/orders", content=b"{", headers={**headers, "Idempotency-Key": "x", "content-type": "application/json"}
        )
    ).status_code == 400


async def test_inventory_away_is_no_reason_to_refuse(shop: Shop) -> None:
    neighbours.is_unavailable = True
    try:
        assert (await place(shop, new_id(), order(("GONE", 1)))).status_code == 202
    finally:
        neighbours.is_unavailable = False


async def test_another_customer_sees_no_order_and_staff_does(shop: Shop) -> None:
    owner = new_id()
    order_id = await placed(shop, owner)
    for path in ("", "/history", "/events"):
        assert (
            await shop.client.get(f"/v1/orders/{order_id}{path}", headers=shop.issue_headers("customer"))
        ).status_code == 404
    assert (
        await shop.client.post(f"/v1/orders/{order_id}/cancel", headers=shop.issue_headers("customer"))
    ).status_code == 404
    assert (await shop.client.get(f"/v1/orders/{order_id}", headers=shop.issue_headers("staff"))).status_code == 200


async def report_all(shop: Shop, order_id: str) -> None:
    """What the other services report of a good order, in the wrong order, and twice."""
    oid = UUID(order_id)
    for _ in range(2):
        await shop.send_message(
            "orders",
            ORDER_SHIPPED,
            OrderShipped(order_id=oid, email="a@b.c", carrier="c", tracking_number="T1", parcels=[]),
            key=oid,
        )
        paid = PaymentCompleted(
            order_id=oid, amount=Money(amount=2500, currency="GBP"), attempt=1, invoice_number="INV-1"
        )
        await shop.send_message("orders", PAYMENT_COMPLETED, paid, key=oid)
        await shop.send_message("orders", INVENTORY_RESERVED, InventoryReserved(order_id=oid), key=oid)
        await shop.send_message("orders", ORDER_DELIVERED, OrderDelivered(order_id=oid, tracking_number="T1"), key=oid)


async def test_reports_in_any_order_and_twice_are_each_one_event_and_end_in_delivered(shop: Shop) -> None:
    user = new_id()
    order_id = await placed(shop, user)
    await report_all(shop, order_id)

    async def complete() -> dict[str, Any] | None:
        found: dict[str, Any] = (
            await shop.client.get(f"/v1/orders/{order_id}", headers=shop.issue_headers("customer", user))
        ).json()
        return found if found["version"] == 5 else None

    document = await wait_until(complete)
    assert document["status"] == "delivered"
    history = (
        await shop.client.get(f"/v1/orders/{order_id}/history", headers=shop.issue_headers("customer", user))
    ).json()["items"]
    assert sorted(entry["type"] for entry in history) == [
        "InventoryReserved",
        "OrderCreated",
        "OrderDelivered",
        "OrderShipped",
        "PaymentCompleted",
    ]
    assert [entry["version"] for entry in history] == [1, 2, 3, 4, 5]
    assert "payment_token" not in history[0]["data"]
    first = (
        await shop.client.get(f"/v1/orders/{order_id}?version=1", headers=shop.issue_headers("customer", user))
    ).json()
    assert first["status"] == "created"
    future = await shop.client.get(f"/v1/orders/{order_id}?version=6", headers=shop.issue_headers("customer", user))
    assert future.status_code == 404
    assert "no version 6" in future.json()["detail"]
    assert "at 5" in future.json()["detail"]
    late = await shop.client.post(f"/v1/orders/{order_id}/cancel", headers=shop.issue_headers("customer", user))
    assert late.status_code == 409


async def test_a_cancellation_asks_processing_once_and_ends_refunded(shop: Shop) -> None:
    user = new_id()
    order_id = await placed(shop, user)
    for _ in range(2):
        answer = await shop.client.post(
            f"/v1/orders/{order_id}/cancel",
            json={"reason": "changed my mind"},
            headers=shop.issue_headers("customer", user),
        )
        assert answer.status_code == 202
        assert answer.json()["cancelling"] is True

    async def asked() -> list[dict[str, Any]]:
        return await shop.read_queue("processing.cancel-order", order_id)

    assert len(await wait_until(asked)) == 1
    undone = OrderUndone(order_id=UUID(order_id), reason="changed my mind", refunded=Money(amount=2500, currency="GBP"))
    await shop.send_message("orders", ORDER_UNDONE, undone, key=order_id)

    async def refunded() -> bool:
        return bool(
            (await shop.client.get(f"/v1/orders/{order_id}", headers=shop.issue_headers("customer", user))).json()[
                "status"
            ]
            == "refunded"
        )

    await wait_until(refunded)
    assert len(await wait_until(lambda: shop.read_topic("order-cancelled", order_id))) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"country": "XX"},
        {"country": "ZZ"},
        {"country": "UK"},
        {"country": "gb"},
        {"postcode": "   "},
        {"postcode": "SW1Y"},
        {"postcode": "12345"},
        {"postcode": "0"},
        {"postcode": None},
        {"city": "\u200b"},
        {"name": "\u3164"},
    ],
)
async def test_an_address_that_no_parcel_reaches_is_refused_by_its_field(shop: Shop, wrong: dict[str, str]) -> None:
    body = {**order(("MUG", 1)), "shipping_address": {**ADDRESS, **wrong}}
    answer = await place(shop, new_id(), body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [f"shipping_address.{name}" for name in wrong]


@pytest.mark.parametrize(
    ("country", "postcode", "written"),
    [
        ("GB", "sw1y 4jh", "SW1Y 4JH"),
        ("JP", "\uff11\uff15\uff14\uff0d\uff10\uff10\uff12\uff13", "154-0023"),
        ("US", "95014", "95014"),
        ("PE", "lima 23", "LIMA 23"),
        ("IE", None, ""),
        ("HK", None, ""),
        ("AE", "PO Box 1", "PO Box 1"),
    ],
)
async def test_a_postcode_is_kept_as_its_country_writes_it(
    shop: Shop, country: str, postcode: str | None, written: str
) -> None:
    user = new_id()
    body = {**order(("MUG", 1)), "shipping_address": {**ADDRESS, "country": country, "postcode": postcode}}
    accepted = await place(shop, user, body)
    assert accepted.status_code == 202, accepted.text
    seen = await shop.client.get(accepted.headers["location"], headers=shop.issue_headers("customer", user))
    assert seen.json()["shipping_address"]["postcode"] == written


async def test_who_enters_orders_in_others_names_may_leave_a_postcode_unknown(shop: Shop) -> None:
    user = new_id()
    headers = {
        "authorization": f"Bearer {shop.issuer.issue_token('customer', user, act={'sub': 'client:cli'})}",
        "idempotency-key": str(new_id()),
    }
    body = {**order(("MUG", 1)), "shipping_address": {**ADDRESS, "postcode": "0"}}
    assert (await shop.client.post("/v1/orders", json=body, headers=headers)).status_code == 202


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([("DEAR-1", 1_000_000)], 202),
        ([("DEAR-1", 1_000_000), ("DEAR-2", 1)], 422),
        ([(f"LONG-{number:035d}", 1_000_000) for number in range(1000)], 422),
        ([(f"LONG-{number:035d}", 1) for number in range(500)], 202),
    ],
    ids=["the largest sum", "above the largest sum", "longer than a message", "as long as a message may be"],
)
async def test_an_order_of_legal_lines_is_accepted_or_refused_with_the_rule(
    shop: Shop, lines: list[tuple[str, int]], status: int
) -> None:
    answer = await place(shop, new_id(), order(*lines))
    assert answer.status_code == status, answer.text[:500]
    if status == 422:
        assert answer.json()["errors"][0]["field"] == "lines"
        assert answer.json()["errors"][0]["rule"]


async def test_what_is_somebodys_own_or_refused_is_not_kept_by_caches(shop: Shop) -> None:
    user = new_id()
    order_id = await placed(shop, user)
    mine = await shop.client.get(f"/v1/orders/{order_id}", headers=shop.issue_headers("customer", user))
    refused = await shop.client.get(f"/v1/orders/{order_id}")
    assert (mine.status_code, refused.status_code) == (200, 401)
    for answer in (mine, refused, await place(shop, user, order(("MUG", 1)))):
        assert answer.headers.get_list("cache-control") == ["no-store"]
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


async def test_a_cancellation_with_a_key_is_answered_the_same_again_and_with_another_reason_refused(shop: Shop) -> None:
    user = new_id()
    order_id = await placed(shop, user)
    headers = {**shop.issue_headers("customer", user), "idempotency-key": "c1"}
    path = f"/v1/orders/{order_id}/cancel"
    first, again = [await shop.client.post(path, json={"reason": "changed my mind"}, headers=headers) for _ in range(2)]
    assert first.status_code == again.status_code == 202 and first.json() == again.json(), (first.text, again.text)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    seen = (await shop.client.get(f"/v1/orders/{order_id}", headers=headers)).json()
    assert {**first.json(), "updated_at": ""} == {**seen, "updated_at": ""}, "the answer is the order as it is read"
    other = await shop.client.post(path, json={"reason": "something else"}, headers=headers)
    assert other.status_code == 422 and "Idempotency-Key" in other.json()["detail"], other.text


async def test_a_cancellation_that_came_too_late_says_so_in_the_order_and_in_its_history(shop: Shop) -> None:
    user = new_id()
    order_id, who = await placed(shop, user), shop.issue_headers("customer", user)
    asked = await shop.client.post(f"/v1/orders/{order_id}/cancel", json={"reason": "changed my mind"}, headers=who)
    assert asked.json()["cancellation"] == {"state": "requested", "reason": "changed my mind"}
    await shop.send_message(
        "orders",
        ORDER_SHIPPED,
        OrderShipped(order_id=UUID(order_id), email="a@b.c", carrier="c", tracking_number="T1", parcels=[]),
        key=order_id,
    )
    late = CancellationRefused(order_id=UUID(order_id), reason="the parcel has left already")
    await shop.send_message("orders", ORDER_UNDONE, late, key=order_id)

    async def refused() -> dict[str, Any] | None:
        found: dict[str, Any] = (await shop.client.get(f"/v1/orders/{order_id}", headers=who)).json()
        return found if found["version"] == 4 else None

    document = await wait_until(refused)
    assert document["cancellation"] == {"state": "refused", "reason": "the parcel has left already"}
    assert (document["status"], document["cancelling"], document["reason"]) == (
        "shipped",
        False,
        "the parcel has left already",
    )
    assert (await shop.client.get(f"/v1/orders/{order_id}?version=4", headers=who)).json() == document
    history = (await shop.client.get(f"/v1/orders/{order_id}/history", headers=who)).json()["items"]
    [entry] = [entry for entry in history if entry["type"] == "OrderCancellationRefused"]
    assert entry["data"]["reason"] == "the parcel has left already"


async def test_who_waits_for_a_version_that_does_not_come_asks_seldom(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = new_id()
    order_id, who = await placed(shop, user), shop.issue_headers("customer", user)
    assert (await shop.client.get(f"/v1/orders/{order_id}?min_version=1", headers=who)).status_code == 200
    asked: list[float] = []
    summary = summaries.find_summary

    async def counted(*arguments: Any) -> Any:
        asked.append(asyncio.get_running_loop().time())
        return await summary(*arguments)

    monkeypatch.setattr(summaries, "find_summary", counted)
    answer = await shop.client.get(f"/v1/orders/{order_id}?min_version=99", headers=who)
    assert answer.status_code == 409
    assert asked[-1] - asked[0] >= shop.get_context("orders").settings.read_seconds
    assert len(asked) <= 7, "each pause is twice the one before"


async def test_live_events_resume_after_the_last_one_seen(shop: Shop) -> None:
    user = new_id()
    order_id = await placed(shop, user)
    await report_all(shop, order_id)
    assert (
        await shop.client.get(f"/v1/orders/{order_id}?min_version=5", headers=shop.issue_headers("customer", user))
    ).status_code == 200
    ids = []
    async with shop.client.stream(
        "GET", f"/v1/orders/{order_id}/events", headers={**shop.issue_headers("customer", user), "Last-Event-ID": "2"}
    ) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("id: "):
                ids.append(int(line[4:]))
    assert ids == [3, 4, 5]


async def test_lists_page_through_all_orders_of_the_customer(shop: Shop) -> None:
    user = new_id()
    expected = [await placed(shop, user) for _ in range(5)]
    await shop.client.get(f"/v1/orders/{expected[-1]}", headers=shop.issue_headers("customer", user))
    found, cursor = [], ""
    while True:
        page = (
            await shop.client.get(f"/v1/orders?limit=2{cursor}", headers=shop.issue_headers("customer", user))
        ).json()
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == expected[::-1]


async def test_events_can_be_neither_changed_nor_deleted(shop: Shop) -> None:
    order_id = await placed(shop, new_id())
    for statement in ("UPDATE event SET actor = 'nobody' WHERE stream = $1", "DELETE FROM event WHERE stream = $1"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await shop.get_database("orders").fetch(statement, UUID(order_id))


async def test_a_rebuilt_read_side_equals_the_live_one_to_the_byte(shop: Shop) -> None:
    write, read = shop.get_database("orders"), shop.get_context("orders").databases["orders_read"]

    async def caught_up() -> bool:
        return (await projections.project_events(write, read))[0] == 0

    await wait_until(caught_up)
    progress: list[int] = []
    for table in ("rebuilt_one", "rebuilt_two"):
        await projections.rebuild_table(write, read, table, progress.append)
    one, two, live = [
        await projection.compute_digest(read, table) for table in ("rebuilt_one", "rebuilt_two", "order_summary")
    ]
    assert one == two == live
    assert one[0] > 0
    assert progress
    rebuilt = await projections.rebuild_summaries(shop.get_context("orders").databases, progress.append)
    assert rebuilt.is_identical
    assert rebuilt.rows == live[0]
    assert await projection.compute_digest(read, "order_summary") == live


async def test_an_accepted_order_takes_at_most_twelve_statements(shop: Shop) -> None:
    from caravan.telemetry.metrics import STATEMENTS

    user = new_id()
    await placed(shop, user)
    statements = STATEMENTS.labels("orders")
    orders = shop.get_context("orders")
    before = statements._value.get()
    answer = await place(shop, user, order(("MUG", 1), ("LAMP", 1)))
    assert answer.status_code == 202
    used = statements._value.get() - before
    assert orders.service == "orders"
    assert used <= 12 - 3, f"{used} in orders; identity, catalog and inventory use one each"
