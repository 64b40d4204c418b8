"""What an order is charged with, the command to charge it, and news of its end travel on channels of their own: they
come in any order, late and again.
"""

from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from caravan.clock import new_id, utc_now
from caravan.messages import Command, Delivery
from services.payments.messages import CapturePayment, ExpectPayment, RefundPayment
from services.payments.model import CANCELLED_REASON, OUT_OF_STOCK_REASON
from services.payments.use_cases import charge, refund
from tests.services.payments.conftest import Around, Till
from tests.support.shop import wait_until

END = {"the refund", "the cancellation", "the rejection"}


def delivery(order: ExpectPayment, message: Command) -> Delivery[Any]:
    return Delivery(message, new_id(), str(order.order_id), utc_now(), None, "customer:ada")


async def arrive(till: Till, order: ExpectPayment, what: str) -> None:
    context = till.shop.get_context("payments")
    if what == "the command":
        await charge.capture_payments(context, [delivery(order, CapturePayment(order_id=order.order_id))])
        return
    async with context.database.unit_of_work() as uow:
        match what:
            case "the payment":
                await charge.expect_payments(context, uow, [order])
            case "the refund":
                await refund.request_refund(
                    context, uow, delivery(order, RefundPayment(order_id=order.order_id, reason="changed my mind"))
                )
            case "the cancellation":
                await charge.void_payments(context, uow, {order.order_id: CANCELLED_REASON})
            case "the rejection":
                await charge.void_payments(context, uow, {order.order_id: OUT_OF_STOCK_REASON})


async def token(till: Till, order_id: UUID) -> str:
    return str(
        await till.shop.get_database("payments").fetchval("SELECT token FROM payment WHERE order_id = $1", order_id)
    )


class Failing(Around):
    """The jobs' store is away."""

    async def enqueue_soon(self, *_: Any) -> None: ...


@pytest.mark.parametrize("jobs_unavailable", [False, True])
async def test_an_order_whose_command_comes_first_is_charged_as_soon_as_it_is_known_with_what(
    till: Till, jobs_unavailable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, context = till.order(), till.shop.get_context("payments")
    if jobs_unavailable:
        monkeypatch.setattr(context, "jobs", Failing(context.jobs))
    for _ in range(2):
        await arrive(till, order, "the command")
    assert (await till.payment(order.order_id))["status"] == "expected"
    await till.expect(order)
    [completed] = await till.wait_for(order.order_id, "payment-completed")
    assert (completed["attempt"], completed["amount"]["amount"]) == (1, 1999)
    assert await till.ledger(order.order_id) == [("1", "captured")]
    assert await token(till, order.order_id) == ""
    assert (await till.shop.client.get(f"/v1/orders/{order.order_id}/invoice", headers=till.staff)).status_code == 200


async def test_orders_of_one_batch_whose_commands_came_first_are_charged_each(till: Till) -> None:
    orders, context = [till.order() for _ in range(3)], till.shop.get_context("payments")
    for order in orders:
        await arrive(till, order, "the command")
    async with context.database.unit_of_work() as uow:
        await charge.expect_payments(context, uow, orders)
    for order in orders:
        [completed] = await till.wait_for(order.order_id, "payment-completed")
        assert completed["attempt"] == 1


async def test_every_order_of_arrival_charges_once_at_most_and_keeps_no_token(till: Till) -> None:
    sequences = [
        (*before, end) if end else before
        for end in (None, *sorted(END))
        for before in [("the payment", "the payment", "the command")]
    ]
    for contents in sequences:
        for sequence in sorted(set(permutations(contents))):
            order = till.order()
            for what in sequence:
                await arrive(till, order, what)
            await _settled(till, order.order_id, sequence)


async def _settled(till: Till, order_id: UUID, sequence: tuple[str, ...]) -> None:
    ended = [what for what in sequence if what in END]
    context = till.shop.get_context("payments")

    async def at_rest() -> str | None:
        context.wake("captures")
        context.wake("refunds")
        status = (await till.payment(order_id))["status"]
        return status if status in ("completed", "voided", "refunded") else None

    status = await wait_until(at_rest)
    outcomes = [outcome for _, outcome in await till.ledger(order_id)]
    assert outcomes in ([], ["captured"], ["captured", "refunded"]), sequence
    assert status == {0: "voided", 1: "completed", 2: "refunded"}[len(outcomes)], sequence
    assert outcomes or ended, sequence
    assert "the refund" not in ended or len(outcomes) != 1, sequence
    assert await token(till, order_id) == "", sequence


async def test_what_is_told_again_after_the_end_brings_back_no_token(till: Till) -> None:
    paid, declined = till.order(), till.order("tok_declined")
    for order, topic in ((paid, "payment-completed"), (declined, "payment-failed")):
        await till.capture(order)
        await till.wait_for(order.order_id, topic)
        for _ in range(5):
            await arrive(till, order, "the payment")
        assert await token(till, order.order_id) == ""
    assert await till.ledger(paid.order_id) == [("1", "captured")]


async def test_a_token_is_kept_while_further_attempts_need_it(till: Till, patient: Any) -> None:
    order, database = till.order("tok_flaky"), till.shop.get_database("payments")
    await till.capture(order)
    await wait_until(
        lambda: database.fetchval("SELECT 1 FROM payment WHERE order_id = $1 AND status = 'retrying'", order.order_id)
    )
    assert await token(till, order.order_id) == "tok_flaky"
    await arrive(till, order, "the refund")
    assert await token(till, order.order_id) == ""
