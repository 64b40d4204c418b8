"""What other services report about an order, cancellations among it, and how the order ends."""

from typing import Any
from uuid import UUID

from caravan.clock import new_id
from caravan.money import Money
from services.processing.messages import ORDER_UNDONE, CancellationRefused, OrderUndone
from services.shipping.messages import ORDER_SHIPPED, OrderShipped
from tests.services.orders.neighbours import create_order, report_all
from tests.support.shop import Shop, wait_until


async def test_reports_in_any_order_and_twice_are_each_one_event_and_end_in_delivered(shop: Shop) -> None:
    user = new_id()
    order_id = await create_order(shop, user)
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
    order_id = await create_order(shop, user)
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


async def test_a_cancellation_with_a_key_is_answered_the_same_again_and_with_another_reason_refused(shop: Shop) -> None:
    user = new_id()
    order_id = await create_order(shop, user)
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
    order_id, who = await create_order(shop, user), shop.issue_headers("customer", user)
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
