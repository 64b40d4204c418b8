"""Cancelling while the payment is under way: everybody tells the same end, and nobody is charged after the cancellation
was accepted.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from caravan.auth import Caller
from caravan.clock import new_id
from caravan.runtime import Backends
from caravan.service import Service
from services.analytics.store import reports
from services.catalog.client import GET_OFFERS
from services.orders.use_cases import cancel
from services.payments.client import HOLD_CAPTURE
from tests.services.orders.neighbours import make_order_body, neighbours
from tests.services.payments.conftest import Around
from tests.support.shop import Shop, run_services, wait_until

ORDERS = 50
PACE = {
    "PAYMENTS_PROVIDER_LATENCY_SECONDS": "0.1",
    "PAYMENTS_RETRY_SECONDS": "[0.3, 0.3]",
    "SHIPPING_PICKUP_SECONDS": "3600",
}
ENDS = {"InventoryRejected": "rejected", "PaymentFailed": "payment_failed", "OrderDelivered": "delivered"}


class Watched(Around):
    """The provider, whose answers can be waited for: that is when a cancellation races what they say."""

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.answered: dict[str, asyncio.Event] = {}
        self.began: list[tuple[str, bool]] = []
        """Order, and whether its cancellation had been accepted when the attempt began."""
        self.accepted: set[str] = set()

    async def capture(self, key: str, reference: str, *arguments: Any) -> Any:
        self.began.append((reference, reference in self.accepted))
        try:
            return await self.real.capture(key, reference, *arguments)
        finally:
            self.answered.setdefault(reference, asyncio.Event()).set()


@pytest.fixture
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PACE.items():
            patch.setenv(name, value)
        catalog = Service("catalog", operations=(GET_OFFERS.bind(neighbours.offers),))
        names = ("orders", "processing", "payments", "inventory", "shipping", "analytics")
        async with run_services(backends, *names, extra_services=(catalog,)) as shop:
            yield shop


async def test_of_fifty_cancellations_that_race_a_payment_each_has_one_end(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A cancellation goes on without a hold that takes too long, and then a charge may begin after it. The frozen
    # operation itself is changed: a copy would not be the one that payments answers in this process.
    monkeypatch.setitem(vars(HOLD_CAPTURE), "seconds", 30)
    parts = shop.get_context("payments").resources
    provider = parts.provider = Watched(parts.provider)
    movement = {"kind": "receive", "quantity": 1000, "reason": "test"}
    received = await shop.client.post("/v1/stock/MUG/movements", json=movement, headers=shop.issue_headers("admin"))
    assert received.status_code == 201, received.text

    async def scenario(number: int) -> tuple[str, str, str]:
        who = shop.issue_headers("customer", new_id())
        token = ("tok_declined", "tok_flaky", "tok_ok", "tok_declined", "tok_timeout_charged")[number % 5]
        body = {**make_order_body(("MUG", 1)), "payment": {"method": "card", "token": token}}
        placed = await shop.client.post("/v1/orders", json=body, headers={**who, "Idempotency-Key": str(new_id())})
        assert placed.status_code == 202, placed.text
        order_id = placed.json()["id"]
        async with asyncio.timeout(30):
            await provider.answered.setdefault(order_id, asyncio.Event()).wait()
        answer = await shop.client.post(f"/v1/orders/{order_id}/cancel", headers=who)
        assert answer.status_code in (202, 409), answer.text
        if answer.status_code == 409:
            assert answer.json()["type"].endswith("/illegal-move"), answer.text
        if answer.status_code == 202:
            provider.accepted.add(order_id)
        status = await wait_until(partial(find_end, shop, order_id, who), seconds=40, every=0.1)
        history = (await shop.client.get(f"/v1/orders/{order_id}/history", headers=who)).json()["items"]
        [end] = [entry["type"] for entry in history if entry["type"] in (*ENDS, "OrderCancelled")]
        assert status == ENDS[end] if end in ENDS else status in ("cancelled", "refunded")
        assert (answer.status_code == 202) == (end == "OrderCancelled") or any(
            "Refused" in entry["type"] for entry in history
        ), answer.text
        return order_id, status, token

    ends = await asyncio.gather(*(scenario(number) for number in range(ORDERS)))
    tokens = {order_id: token for order_id, _, token in ends}
    begun = [order_id for order_id, late in provider.began if late and tokens[order_id] != "tok_timeout_charged"]
    assert begun == [], "only a call that had no answer is asked about again"
    assert {status for _, status, _ in ends} >= {"payment_failed", "cancelled"}
    for order_id, status, _ in ends:
        [processed] = [
            envelope["data"]["outcome"]
            for envelope in await wait_until(partial(shop.read_topic, "order-processed", order_id))
        ]
        assert processed == status or (status in ("cancelled", "refunded") and processed in ("cancelled", "completed"))
        money = [
            entry.outcome
            for entry in await provider.list_entries(order_id)
            if entry.outcome in ("captured", "refunded")
        ]
        assert money == (["captured", "refunded"] if status == "refunded" else []), (order_id, status, money)
        await wait_until(partial(counted, shop, order_id, status))


async def find_end(shop: Shop, order_id: str, who: dict[str, str]) -> str | None:
    """The status that the order's customer sees, once it is the last one."""
    found = (await shop.client.get(f"/v1/orders/{order_id}", headers=who)).json()
    has_ended = found["status"] in ("payment_failed", "cancelled", "refunded") and not found["cancelling"]
    return str(found["status"]) if has_ended else None


async def counted(shop: Shop, order_id: str, status: str) -> bool:
    """Whether the dashboard counts the order as its customer sees it."""
    state = await shop.get_database("analytics").fetchval(
        f"SELECT {reports.STATE} FROM order_fact WHERE order_id = $1", UUID(order_id)
    )
    return bool(state == status)


async def test_the_operators_command_line_cancels_an_order_that_waits_for_its_payment(shop: Shop) -> None:
    order_id, who = await waiting(shop)
    operator = {"authorization": f"Bearer {shop.issuer.issue_token('admin', sub='cli')}"}
    answer = await shop.client.post(f"/v1/orders/{order_id}/cancel", json={"reason": "fraud"}, headers=operator)
    assert answer.status_code == 202, answer.text

    async def cancelled() -> bool:
        return bool((await shop.client.get(f"/v1/orders/{order_id}", headers=who)).json()["status"] == "cancelled")

    await wait_until(cancelled)


async def test_a_cancellation_that_fails_does_not_keep_the_payment_waiting(shop: Shop) -> None:
    order_id, _ = await waiting(shop)
    context, payments = shop.get_context("orders"), shop.get_database("payments")

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await cancel.cancel_order(context, Caller("cli", "admin", "a session"), UUID(order_id), "fraud", broken)
    left = await payments.fetchval(
        "SELECT held_until - $2 FROM payment WHERE order_id = $1", UUID(order_id), context.clock()
    )
    assert left < timedelta(seconds=11)
    await payments.fetch("UPDATE payment SET held_until = $2 WHERE order_id = $1", UUID(order_id), context.clock())
    await wait_until(
        lambda: payments.fetchval(
            "SELECT true FROM payment WHERE order_id = $1 AND status = 'completed'", UUID(order_id)
        )
    )


async def waiting(shop: Shop) -> tuple[str, dict[str, str]]:
    """An order whose first attempt to pay has failed."""
    movement = {"kind": "receive", "quantity": 10, "reason": "test"}
    received = await shop.client.post("/v1/stock/MUG/movements", json=movement, headers=shop.issue_headers("admin"))
    assert received.status_code == 201, received.text
    who = shop.issue_headers("customer", new_id())
    body = {**make_order_body(("MUG", 1)), "payment": {"method": "card", "token": "tok_flaky"}}
    placed = await shop.client.post("/v1/orders", json=body, headers={**who, "Idempotency-Key": str(new_id())})
    order_id = placed.json()["id"]
    payments = shop.get_database("payments")
    await wait_until(
        lambda: payments.fetchval("SELECT true FROM payment WHERE order_id = $1 AND attempt > 0", UUID(order_id))
    )
    return order_id, who
