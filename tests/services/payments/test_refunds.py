"""Giving back: once, never more than was captured, in any order of arrival."""

import asyncio
from typing import Any

from caravan.clock import new_id
from caravan.money import Money
from services.payments.providers.protocol import CaptureSuccess, NoProviderResponse
from tests.services.payments.conftest import Around, Till
from tests.support.shop import wait_until


async def test_a_captured_order_is_given_back_once_however_often_it_is_asked_for(till: Till) -> None:
    order = till.order()
    await till.capture(order)
    await till.wait_for(order.order_id, "payment-completed")
    for _ in range(5):
        await till.refund(order.order_id)
    await till.wait_for(order.order_id, "payment-refunded")
    await till.refund(order.order_id, reason="again")
    events = await till.wait_for(order.order_id, "payment-refunded", 2)
    assert all(
        event
        == {"order_id": str(order.order_id), "amount": {"amount": 1999, "currency": "GBP"}, "reason": "changed my mind"}
        for event in events
    )
    assert await till.ledger(order.order_id) == [("1", "captured"), ("refund", "refunded")]
    payment = await till.payment(order.order_id)
    assert payment["status"] == "refunded"
    assert [(refund["state"], refund["amount"]["amount"]) for refund in payment["refunds"]] == [("done", 1999)]
    audited = await till.shop.read_topic("audit", f"order:{order.order_id}")
    assert [(entry["data"]["action"], entry["data"]["details"]["amount"]["amount"]) for entry in audited] == [
        ("payment.captured", 1999),
        ("payment.refunded", 1999),
    ]


async def test_a_refund_before_anything_was_captured_gives_back_nothing_and_refuses_a_later_capture(till: Till) -> None:
    order = till.order()
    await till.refund(order.order_id)
    [refunded] = await till.wait_for(order.order_id, "payment-refunded")
    await till.capture(order)
    await till.wait_for(order.order_id, "payment-failed")
    assert refunded["amount"] == {"amount": 0, "currency": "GBP"}
    assert await till.ledger(order.order_id) == []
    assert (await till.payment(order.order_id))["status"] == "voided"
    assert await till.shop.read_topic("payment-completed", order.order_id) == []


async def test_a_refund_of_a_declined_order_gives_back_nothing(till: Till) -> None:
    order = till.order("tok_declined")
    await till.capture(order)
    await till.wait_for(order.order_id, "payment-failed")
    await till.refund(order.order_id)
    [refunded] = await till.wait_for(order.order_id, "payment-refunded")
    assert refunded["amount"]["amount"] == 0
    assert await till.ledger(order.order_id) == [("1", "declined")]


async def test_a_refund_between_two_attempts_ends_the_attempts(till: Till) -> None:
    order, database = till.order("tok_flaky"), till.shop.get_database("payments")
    await till.capture(order)

    async def held() -> Any:  # the next attempt stays away long enough to be overtaken
        return await database.fetchval(
            "UPDATE payment SET due_at = due_at + interval '1 hour' WHERE order_id = $1 AND status = 'retrying' "
            "RETURNING order_id",
            order.order_id,
        )

    await wait_until(held)
    await till.refund(order.order_id)
    [refunded] = await till.wait_for(order.order_id, "payment-refunded")
    await till.wait_for(order.order_id, "payment-failed")
    assert refunded["amount"]["amount"] == 0
    assert (await till.payment(order.order_id))["status"] == "voided"
    assert "captured" not in [outcome for _, outcome in await till.ledger(order.order_id)]


async def test_a_refund_during_a_call_waits_for_its_outcome_and_then_gives_all_back(till: Till, provider: Any) -> None:
    answering = asyncio.Event()

    class Silent(Around):
        async def capture(self, key: str, reference: str, amount: Money, token: str) -> CaptureSuccess:
            charged: CaptureSuccess = await self.real.capture(key, reference, amount, token)
            if not answering.is_set():
                raise NoProviderResponse
            return charged

    provider(Silent)
    order = till.order()
    await till.capture(order)
    await wait_until(
        lambda: till.shop.get_database("payments").fetchval(
            "SELECT 1 FROM payment_attempt WHERE order_id = $1 AND state = 'unknown'", order.order_id
        )
    )
    await till.refund(order.order_id)
    await wait_until(
        lambda: till.shop.get_database("payments").fetchval(
            "SELECT refund_asked FROM payment WHERE order_id = $1", order.order_id
        )
    )
    assert await till.events(order.order_id) == []
    answering.set()
    [refunded] = await till.wait_for(order.order_id, "payment-refunded")
    assert refunded["amount"]["amount"] == 1999
    assert len(await till.shop.read_topic("payment-completed", order.order_id)) == 1
    assert await till.ledger(order.order_id) == [("1", "captured"), ("refund", "refunded")]


async def test_a_refund_whose_answer_was_lost_is_asked_about_with_the_same_key(till: Till, provider: Any) -> None:
    calls: list[str] = []

    class Forgetful(Around):
        async def refund(self, key: str, reference: str, charge: str, amount: Money) -> None:
            calls.append(key)
            await self.real.refund(key, reference, charge, amount)
            if len(calls) == 1:
                raise NoProviderResponse

    provider(Forgetful)
    order = till.order()
    await till.capture(order)
    await till.wait_for(order.order_id, "payment-completed")
    await till.refund(order.order_id)
    await till.wait_for(order.order_id, "payment-refunded")
    assert calls == [f"{order.order_id}:refund"] * 2
    assert await till.ledger(order.order_id) == [("1", "captured"), ("refund", "refunded")]


async def test_nothing_is_known_of_an_order_that_was_never_heard_of(till: Till) -> None:
    for path in ("", "/provider-ledger"):
        assert (await till.shop.client.get(f"/v1/payments/{new_id()}{path}", headers=till.staff)).status_code == 404
