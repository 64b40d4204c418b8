"""What payments tells of an order names who asked for what: a charge and its refund are two people's."""

from caravan import telemetry
from caravan.timeline import TimelineEntry
from services.payments.timeline import describe_payment
from tests.services.payments.conftest import Till

CUSTOMER, ADMIN = "customer:ada", "admin:grace"


async def refund_as_admin(till: Till, order_id: object) -> tuple[str, str]:
    """The actor and the trace of the refund."""
    traceparent = telemetry.new_traceparent()
    actor, trace = telemetry.actor.set(ADMIN), telemetry.traceparent.set(traceparent)
    try:
        await till.refund(order_id)  # type: ignore[arg-type]
    finally:
        telemetry.traceparent.reset(trace)
        telemetry.actor.reset(actor)
    return ADMIN, str(telemetry.parse_trace_id(traceparent))


async def list_people(till: Till, order_id: object) -> dict[str, tuple[str | None, str | None]]:
    part = await describe_payment(till.shop.get_context("payments"), order_id, [])  # type: ignore[arg-type]
    entries: list[TimelineEntry] = part.entries
    return {entry.id: (entry.actor, entry.trace_id) for entry in entries}


async def test_a_refund_is_the_work_of_who_asked_for_it(till: Till) -> None:
    order = till.order()
    token = telemetry.actor.set(CUSTOMER)
    try:
        await till.capture(order)
    finally:
        telemetry.actor.reset(token)
    await till.wait_for(order.order_id, "payment-completed")
    by_admin = await refund_as_admin(till, order.order_id)
    await till.wait_for(order.order_id, "payment-refunded")
    people = await list_people(till, order.order_id)
    assert {people[name] for name in ("refund", "refund:done", "credit_note")} == {by_admin}
    assert people["payment:attempt:1"][0] == people["invoice"][0] == CUSTOMER
    assert by_admin[1] not in {people["payment:attempt:1"][1], people["invoice"][1]}


async def test_a_payment_that_was_never_made_is_voided_by_who_asked_for_the_refund(till: Till) -> None:
    order = till.order()
    await till.expected(order)
    by_admin = await refund_as_admin(till, order.order_id)
    await till.wait_for(order.order_id, "payment-refunded")
    people = await list_people(till, order.order_id)
    assert people["payment:voided"] == by_admin
