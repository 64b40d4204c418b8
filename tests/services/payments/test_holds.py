"""No attempt to charge begins for an order whose cancellation is being accepted."""

from datetime import timedelta
from typing import Any

from caravan.clock import new_id, utc_now
from caravan.jobs import Job
from caravan.messages import Delivery
from services.payments.client import HOLD_CAPTURE, HoldRequest
from services.payments.messages import CapturePayment
from services.payments.use_cases import RETRY_JOB, charge
from tests.services.payments.conftest import Till
from tests.support.shop import wait_until


async def test_neither_a_first_nor_a_further_attempt_begins_while_an_order_is_held(till: Till, patient: Any) -> None:
    fresh, between = till.order(), till.order("tok_flaky")
    database, context = till.shop.get_database("payments"), till.shop.get_context("payments")
    await till.expected(fresh)
    await till.capture(between)
    await wait_until(
        lambda: database.fetchval("SELECT 1 FROM payment WHERE order_id = $1 AND status = 'retrying'", between.order_id)
    )
    for order in (fresh, between):
        await context.call(HOLD_CAPTURE, HoldRequest(order_id=order.order_id))
    for order in (fresh, between):
        await charge.capture_payments(context, [delivery(order)])
    past = utc_now() - timedelta(hours=1)
    await database.fetch(
        "UPDATE payment SET due_at = $2 WHERE order_id = $1 AND due_at IS NOT NULL", between.order_id, past
    )
    await charge.retry_capture(context, job(between.order_id, 2))
    await charge.resume_captures(context)
    assert await till.ledger(fresh.order_id) == []
    assert await till.ledger(between.order_id) == [("1", "failed")]
    for order in (fresh, between):
        await till.refund(order.order_id)
        [refunded] = await till.wait_for(order.order_id, "payment-refunded")
        assert refunded["amount"]["amount"] == 0


async def test_a_hold_that_no_cancellation_follows_ends_by_itself(till: Till) -> None:
    order, database, context = till.order(), till.shop.get_database("payments"), till.shop.get_context("payments")
    await context.call(HOLD_CAPTURE, HoldRequest(order_id=order.order_id))
    await charge.capture_payments(context, [delivery(order)])
    assert await till.ledger(order.order_id) == []
    await till.expected(order)
    await charge.capture_payments(context, [delivery(order)])
    assert await till.ledger(order.order_id) == []
    await database.fetch("UPDATE payment SET held_until = $2 WHERE order_id = $1", order.order_id, utc_now())
    await till.wait_for(order.order_id, "payment-completed")


def delivery(order: Any) -> Delivery[CapturePayment]:
    return Delivery(CapturePayment(order_id=order.order_id), new_id(), str(order.order_id), utc_now(), None, None)


def job(order_id: Any, attempt: int) -> Job:
    async def report(done: int, total: int | None = None) -> None: ...

    return Job("x", RETRY_JOB, {"order_id": str(order_id), "attempt": attempt}, 1, None, report, lambda: False)
