"""Folding an order's events gives the state that is stored, whatever happened to it and in however many pieces it was
projected: 10,000 random histories.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from caravan.clock import new_id
from caravan.messages import Event
from caravan.money import Money
from caravan.runtime import Backends
from services.orders import model, projections
from services.orders.model import IllegalMove, OfferedProduct, Order
from services.orders.store import projection
from tests.support.order_messages import ADDRESS
from tests.support.shop import Shop, run_services

HISTORIES, MOVES, EXAMPLES = 200, 12, 50
POUNDS = Money(amount=1250, currency="GBP")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STORED = (
    "status",
    "version",
    "cancelling",
    "cancellation",
    "cancellation_reason",
    "reason",
    "invoice_number",
    "tracking_number",
    "refunded",
)


def move(order: Order, choice: int) -> list[Event]:
    """What may happen to an order next, whether it makes sense or not."""
    facts: list[Event] = [
        model.InventoryReserved(),
        model.InventoryRejected(reason="gone"),
        model.PaymentCompleted(amount=POUNDS, attempt=1, invoice_number="2026-1"),
        model.PaymentFailed(reason="card_declined"),
        model.OrderShipped(carrier="Camel Post", tracking_number="CP1"),
        model.OrderDelivered(tracking_number="CP1"),
    ]
    match choice % 11:
        case number if number < len(facts):
            return order.record_report(facts[number])
        case 6 | 7:
            try:
                return order.request_cancellation("changed my mind")
            except IllegalMove:
                return []
        case 8:
            return order.complete_cancellation("changed my mind", POUNDS)
        case 9:
            return order.complete_cancellation("changed my mind", None)
        case _:
            return order.refuse_cancellation("it has left")


def histories(choices: bytes) -> dict[UUID, list[Event]]:
    found: dict[UUID, list[Event]] = {}
    for start in range(0, len(choices), MOVES):
        order_id = new_id()
        created = model.create_order(
            order_id,
            new_id(),
            "ada@example.com",
            "Ada",
            [(OfferedProduct("MUG", "Mug", "all", POUNDS), 1)],
            ADDRESS,
            "card",
            NOW,
        )
        order = Order()
        order.apply(created)
        events: list[Event] = [created]
        for choice in choices[start : start + MOVES]:
            for event in move(order, choice):
                order.apply(event)
                events.append(event)
        found[order_id] = events
    return found


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    async with run_services(backends, "orders") as shop:
        yield shop


async def project(shop: Shop) -> None:
    databases = shop.get_context("orders").databases
    while (await projections.project_events(databases["orders"], databases["orders_read"]))[0]:
        pass


# Not shrunk: that takes minutes with a database, and what fails names the one history.
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(choices=st.binary(min_size=HISTORIES * MOVES, max_size=HISTORIES * MOVES), cut=st.integers(0, MOVES))
async def test_the_fold_of_the_events_is_the_stored_state(shop: Shop, choices: bytes, cut: int) -> None:
    emitted = histories(choices)
    databases = shop.get_context("orders").databases
    for first, last in ((0, cut), (cut, MOVES + 1)):  # the read side takes it in as two pieces
        async with databases["orders"].unit_of_work() as uow:
            for order_id, events in emitted.items():
                uow.append(order_id, first, events[first:last])
        await project(shop)
    streams = await model.EVENT_STORE.load_streams(databases["orders"], list(emitted))
    async with databases["orders_read"].unit_of_work() as uow:
        stored = await projection.load_orders(uow, projections.LIVE_TABLE, list(emitted))
    for order_id, events in emitted.items():
        folded = model.fold_events((recorded.event, recorded.time) for recorded in streams[order_id])
        assert folded.version == len(events)
        expected, found = ({name: getattr(order, name) for name in STORED} for order in (folded, stored[order_id]))
        assert found == expected, [type(event).__name__ for event in events]
        assert stored[order_id].updated_at == folded.updated_at


async def test_and_a_read_side_built_anew_from_all_of_them_is_the_same_to_the_byte(shop: Shop) -> None:
    await project(shop)
    rebuilt = await projections.rebuild_summaries(shop.get_context("orders").databases, lambda _: None)
    assert rebuilt.is_identical
    assert rebuilt.rows >= HISTORIES
