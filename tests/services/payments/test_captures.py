"""Charging: once per order, whatever comes twice, fails or goes unanswered. The provider's own ledger is the
witness.
"""

import asyncio
from datetime import timedelta
from typing import Any

from caravan.clock import new_id
from caravan.messages import Delivery
from caravan.money import Money
from services.orders.messages import ORDERS, OrderCancelled
from services.payments import model
from services.payments.messages import CAPTURE_PAYMENT, EXPECT_PAYMENT, CapturePayment
from services.payments.providers.protocol import CaptureDecline, CaptureSuccess
from services.payments.store import charges
from services.payments.use_cases import charge
from tests.services.payments.conftest import Around, Till
from tests.support.faults import switch_faults
from tests.support.shop import wait_until


async def test_an_order_that_was_just_placed_shows_an_expected_payment_to_its_owner_only(till: Till) -> None:
    order = till.order()
    await till.expected(order)
    owner, stranger = till.shop.issue_headers(user_id=order.user_id), till.shop.issue_headers()
    path = f"/v1/payments/{order.order_id}"

    async def get_payment() -> Any:
        answer = await till.shop.client.get(path, headers=owner)
        return answer.status_code == 200 and answer.json()

    shown = await wait_until(get_payment)
    assert (shown["status"], shown["amount"], shown["attempts"]) == (
        "expected",
        {"amount": 1999, "currency": "GBP"},
        [],
    )
    assert (await till.shop.client.get(path, headers=stranger)).status_code == 404
    assert (await till.shop.client.get(path)).status_code == 401
    assert (await till.shop.client.get(f"{path}/provider-ledger", headers=owner)).status_code == 403


async def test_a_good_card_is_charged_once_and_the_invoice_number_is_announced(till: Till) -> None:
    order = till.order()
    await till.capture(order)
    [completed] = await till.wait_for(order.order_id, "payment-completed")
    payment = await till.payment(order.order_id)
    assert completed["amount"] == {"amount": 1999, "currency": "GBP"}
    assert completed["attempt"] == 1
    assert completed["invoice_number"] == payment["invoice_number"]
    assert payment["status"] == "completed"
    assert [capture["amount"]["amount"] for capture in payment["captures"]] == [1999]
    assert await till.ledger(order.order_id) == [("1", "captured")]


async def test_a_command_delivered_five_times_charges_once_and_answers_each_new_command(till: Till) -> None:
    order, identifier = till.order(), new_id()
    for _ in range(5):
        await till.capture(order, identifier=identifier)
    await till.wait_for(order.order_id, "payment-completed")
    await asyncio.gather(*(till.capture(order) for _ in range(3)))
    answers = await till.wait_for(order.order_id, "payment-completed", 2)
    assert all(answer == answers[0] for answer in answers)
    assert await till.ledger(order.order_id) == [("1", "captured")]


async def test_a_hard_decline_fails_at_once_and_unknown_tokens_are_one(till: Till) -> None:
    declined, unknown = till.order("tok_declined"), till.order("tok_4711")
    await asyncio.gather(till.capture(declined), till.capture(unknown))
    for order, reason in ((declined, "card_declined"), (unknown, "invalid_token")):
        [failed] = await till.wait_for(order.order_id, "payment-failed")
        assert (failed["reason"], failed["attempts"]) == (reason, 1)
        assert await till.ledger(order.order_id) == [("1", "declined")]
        assert (await till.payment(order.order_id))["status"] == "failed"
    await till.capture(declined)
    again = await till.wait_for(declined.order_id, "payment-failed", 2)
    assert again[0] == again[1]


async def test_a_soft_failure_is_tried_again_with_a_new_key_until_it_is_paid(till: Till) -> None:
    order = till.order("tok_flaky")
    await till.capture(order)
    [completed] = await till.wait_for(order.order_id, "payment-completed")
    assert completed["attempt"] == 3
    assert await till.ledger(order.order_id) == [("1", "failed"), ("2", "failed"), ("3", "captured")]
    states = [(attempt["state"], attempt["reason"]) for attempt in (await till.payment(order.order_id))["attempts"]]
    assert states == [("failed", "try_again_later"), ("failed", "try_again_later"), ("captured", "")]


async def test_a_charge_whose_answer_was_lost_is_asked_about_with_the_same_key(till: Till) -> None:
    order = till.order("tok_timeout_charged")
    await till.capture(order)
    [completed] = await till.wait_for(order.order_id, "payment-completed")
    [attempt] = (await till.payment(order.order_id))["attempts"]
    assert completed["attempt"] == 1
    assert (attempt["state"], attempt["calls"]) == ("captured", 2)
    assert await till.ledger(order.order_id) == [("1", "captured")]


async def test_soft_failures_end_in_a_failed_payment_when_the_attempts_are_used_up(till: Till, provider: Any) -> None:
    keys: list[str] = []

    class Busy(Around):
        async def capture(self, key: str, reference: str, amount: Money, token: str) -> CaptureDecline:
            keys.append(key)
            return CaptureDecline("busy", hard=False)

    provider(Busy)
    order = till.order()
    await till.capture(order)
    [failed] = await till.wait_for(order.order_id, "payment-failed")
    assert failed == {"order_id": str(order.order_id), "reason": "busy", "attempts": 5}
    assert keys == [f"{order.order_id}:{attempt}" for attempt in range(1, 6)]


async def test_a_call_that_hangs_is_cut_off_and_asked_about_with_the_same_key(till: Till, provider: Any) -> None:
    class Hanging(Around):
        hung = False

        async def capture(self, key: str, reference: str, amount: Money, token: str) -> CaptureSuccess | CaptureDecline:
            if token == "tok_slow" and not self.hung:
                self.hung = True
                await asyncio.sleep(60)
            result: CaptureSuccess | CaptureDecline = await self.real.capture(key, reference, amount, "tok_ok")
            return result

    provider(Hanging)
    slow, quick = till.order("tok_slow"), till.order()
    await asyncio.gather(till.capture(slow), till.capture(quick))
    await till.wait_for(quick.order_id, "payment-completed")
    [completed] = await till.wait_for(slow.order_id, "payment-completed")
    assert completed["attempt"] == 1
    assert await till.ledger(slow.order_id) == [("1", "captured")]


async def test_a_process_that_died_after_the_call_charges_no_second_time(till: Till) -> None:
    order, context = till.order(), till.shop.get_context("payments")
    await till.expected(order)
    command = Delivery(
        CapturePayment(order_id=order.order_id), new_id(), str(order.order_id), context.clock(), None, None
    )
    await charges.begin_captures(
        context.database, [command], "GBP", context.clock() + timedelta(hours=1), context.clock()
    )
    await context.resources.provider.capture(f"{order.order_id}:1", str(order.order_id), order.amount, "tok_ok")

    await till.capture(order)  # the message comes again, because it was never acknowledged
    [completed] = await till.wait_for(order.order_id, "payment-completed")
    assert completed["attempt"] == 1
    assert await till.ledger(order.order_id) == [("1", "captured")]


async def test_a_command_that_can_not_be_stored_holds_up_no_other_of_its_batch(till: Till) -> None:
    orders = [till.order() for _ in range(5)]
    poison = till.order(customer_name="\x00")
    async with till.shop.get_database("payments").unit_of_work() as uow:
        for order in (*orders[:3], poison, *orders[3:]):
            uow.emit(EXPECT_PAYMENT, order, key=order.order_id)
            uow.emit(CAPTURE_PAYMENT, CapturePayment(order_id=order.order_id), key=order.order_id)
    for order in orders:
        await till.wait_for(order.order_id, "payment-completed")
        assert await till.ledger(order.order_id) == [("1", "captured")]
    assert await till.events(poison.order_id) == []


async def test_an_order_cancelled_before_the_command_is_never_charged(till: Till) -> None:
    order = till.order()
    await till.expected(order)
    cancelled = OrderCancelled(
        order_id=order.order_id, user_id=order.user_id, email=order.email, reason="", refunded=None
    )
    await till.shop.send_message("payments", ORDERS, cancelled, key=order.order_id)

    async def voided() -> bool:
        answer = await till.shop.client.get(f"/v1/payments/{order.order_id}", headers=till.staff)
        return answer.status_code == 200 and answer.json()["status"] == "voided"

    await wait_until(voided)
    await till.capture(order)
    [failed] = await till.wait_for(order.order_id, "payment-failed")
    assert failed["reason"] == model.CANCELLED_REASON
    assert await till.ledger(order.order_id) == []


async def test_staff_page_through_payments_by_status_and_customers_may_not(till: Till) -> None:
    orders = [till.order("tok_declined") for _ in range(3)]
    await asyncio.gather(*(till.capture(order) for order in orders))
    for order in orders:
        await till.wait_for(order.order_id, "payment-failed")
    first = (await till.shop.client.get("/v1/payments?status=failed&limit=2", headers=till.staff)).json()
    second = (
        await till.shop.client.get(
            f"/v1/payments?status=failed&limit=2&cursor={first['next_cursor']}", headers=till.staff
        )
    ).json()
    newest = sorted((str(order.order_id) for order in orders), reverse=True)
    assert [item["order_id"] for item in first["items"] + second["items"]][:3] == newest
    assert (await till.shop.client.get("/v1/payments", headers=till.shop.issue_headers())).status_code == 403
    assert (await till.shop.client.get("/v1/payments?cursor=abc", headers=till.staff)).status_code == 400
    assert (await till.shop.client.get("/v1/payments?status=lost", headers=till.staff)).status_code == 422


async def test_a_charge_whose_answer_was_lost_is_not_taken_for_declined_by_a_fault(till: Till) -> None:
    charged = till.order("tok_timeout_charged")
    payment = model.Payment(
        order_id=charged.order_id,
        status="capturing",
        amount=1999,
        currency="GBP",
        token="tok_timeout_charged",
        attempt=1,
        reason="",
        refund_asked=False,
        due_at=None,
        traceparent=None,
        actor=None,
        cause=None,
    )
    context = till.shop.get_context("payments")
    [(_, lost)] = await charge.call_provider(context, [payment])
    with switch_faults("provider-refusing:payment"):
        [(_, known)] = await charge.call_provider(context, [payment])
    assert (lost.state, known.state) == ("unknown", "captured")


async def test_faults_of_the_provider_decline_a_charge_or_leave_it_open_until_they_are_over(till: Till) -> None:
    declined, opened = till.order(), till.order()
    with switch_faults("provider-refusing:payment"):
        await till.capture(declined)
        await till.wait_for(declined.order_id, "payment-failed")
    assert await till.ledger(declined.order_id) == [("1", "declined")]
    with switch_faults("provider-failing:payment"):
        await till.capture(opened)

        async def is_asked_again() -> bool:
            return len((await till.payment(opened.order_id))["attempts"]) > 0

        await wait_until(is_asked_again)
    await till.wait_for(opened.order_id, "payment-completed")
    assert await till.ledger(opened.order_id) == [("1", "captured")]
