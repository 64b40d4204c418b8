"""Each kind of gap, written into the books by hand, is found as what it is; books that agree have none."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from caravan.clock import utc_now
from services.reconciliation.model.classes import CLASSES
from services.reconciliation.store import cases
from services.reconciliation.use_cases import ReconciliationContext
from tests.services.reconciliation.conftest import compare
from tests.services.reconciliation.planting import AGE, TOTAL, Order, Planter, cancelled, declined

UNPAID = ("OrderCreated", "InventoryReserved", "OrderShipped", "OrderDelivered")
CAPTURE = ("{id}:1", "capture", TOTAL, "GBP")
REFUND = ("{id}:refund", "refund", TOTAL, "GBP")
WRONG_ORDERS: dict[str, Callable[[], Order]] = {
    "captured_without_order": lambda: Order(events=(), reservation="", shipment=""),
    "shipped_without_order": lambda: Order(events=()),
    "paid_without_capture": lambda: Order(captured=()),
    "double_capture": lambda: Order(ledger=(CAPTURE, ("{id}:2", "capture", TOTAL, "GBP"))),
    "refund_above_capture": lambda: cancelled(ledger=(CAPTURE, REFUND, ("{id}:refund2", "refund", 1, "GBP"))),
    "refund_without_cause": lambda: Order(refunded=TOTAL, payment="refunded"),
    "capture_not_returned": lambda: cancelled(refunded=0, payment="completed"),
    "wrong_amount": lambda: Order(paid=TOTAL - 1),
    "wrong_currency": lambda: Order(ledger=(("{id}:1", "capture", TOTAL, "USD"),)),
    "entry_unknown_to_us": lambda: declined(ledger=(CAPTURE,)),
    "entry_unknown_to_provider": lambda: Order(ledger=()),
    "shipped_unpaid": lambda: Order(events=UNPAID, captured=()),
    "leaked_reservation": lambda: declined(reservation="held"),
    "shipped_without_stock": lambda: Order(reservation="released"),
    "wrong_units": lambda: Order(shipped_units=3),
    "order_stuck": lambda: declined(
        events=("OrderCreated",), payment="expected", reservation="", closed=False, age=timedelta(days=2)
    ),
}
GOOD_ORDERS: dict[str, Callable[[], Order]] = {
    "delivered": Order,
    "cancelled": cancelled,
    "declined": declined,
    "paid and waiting for the carrier": lambda: Order(
        events=("OrderCreated", "InventoryReserved", "PaymentCompleted"), reservation="held", shipment="", closed=False
    ),
    "travelling": lambda: Order(events=(*UNPAID[:2], "PaymentCompleted", "OrderShipped"), shipment="shipped"),
    "captured at the second attempt": lambda: Order(captured=(2,)),
    "wrong, and too young to be judged": lambda: Order(captured=(), age=timedelta(seconds=-60)),
    "wrong, and still under way": lambda: declined(reservation="held", closed=False),
}


async def list_found(context: ReconciliationContext) -> set[tuple[str, str]]:
    return {(case.gap_class, case.subject) for case in await cases.list_unsettled(context.database)}


@pytest.mark.parametrize("mode", ["changes", "full"])
async def test_each_planted_gap_is_found_as_what_it_is(
    context: ReconciliationContext, planter: Planter, mode: str
) -> None:
    before = await list_found(context)
    held = await planter.plant_stock(10, 2, sku="" if mode == "full" else planter.sku)
    planted = {(name, str(await planter.plant_order(make()))) for name, make in WRONG_ORDERS.items()}
    good = {str(await planter.plant_order(make())) for make in GOOD_ORDERS.values()}
    await compare(context, mode)
    found = await list_found(context) - before
    of_orders = {gap for gap in found if gap[1] not in (planter.sku, held)}
    assert of_orders == planted
    assert not good & {subject for _, subject in of_orders}


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (Order(events=(), reservation="shipped", shipment=""), {"shipped_without_order"}),
        (Order(captured=(), ledger=(CAPTURE,)), {"entry_unknown_to_us"}),
    ],
    ids=["the order is lost after its stock has left", "our books of a payment are lost"],
)
async def test_money_is_neither_given_back_for_what_has_left_nor_missed_where_the_provider_has_it(
    context: ReconciliationContext, planter: Planter, order: Order, found: set[str]
) -> None:
    """As after a restore of one database to an older moment than the others."""
    order_id = str(await planter.plant_order(order))
    await compare(context, "full")
    assert {gap_class for gap_class, subject in await list_found(context) if subject == order_id} == found


async def plant_lost_stock(planter: Planter) -> str:
    return await planter.plant_stock(10, on_hand=7)


async def plant_leaked_stock(planter: Planter) -> str:
    return await planter.plant_stock(10, 2)


async def plant_oversold_stock(planter: Planter) -> str:
    inventory = planter.connections["inventory"]
    await inventory.execute("ALTER TABLE stock DROP CONSTRAINT IF EXISTS stock_not_oversold")
    sku = await planter.plant_stock(2, 3)
    order = declined(events=(), reservation="held", reserved_units=3, age=timedelta(hours=-1))
    planter.sku, kept = sku, planter.sku
    await planter.plant_order(order)
    planter.sku = kept
    return sku


async def plant_unpublished(planter: Planter) -> str:
    await planter.connections["payments"].execute(
        "INSERT INTO outbox (message_id, kind, channel, route, key, body, created_at, refused_at)"
        " VALUES (gen_random_uuid(), 'topic', 'planted', '', 'key', '', now() - interval '10 minutes',"
        " now() - interval '9 minutes')"
    )
    return "payments:planted"


async def plant_foreign_entry(planter: Planter) -> str:
    await planter.plant_ledger([("foreign", "capture", 1, "GBP")], "somebody else's", utc_now() - AGE)
    return "foreign"


@pytest.mark.parametrize(
    ("gap_class", "plant"),
    [
        ("stock_not_movements", plant_lost_stock),
        ("reserved_not_reservations", plant_leaked_stock),
        ("stock_oversold", plant_oversold_stock),
        ("outbox_unpublished", plant_unpublished),
        ("entry_unknown_to_us", plant_foreign_entry),
    ],
)
async def test_what_is_wrong_beside_orders_is_found(
    context: ReconciliationContext, planter: Planter, gap_class: str, plant: Callable[[Planter], Awaitable[str]]
) -> None:
    await compare(context)
    before = await list_found(context)
    subject = await plant(planter)
    await compare(context)
    assert await list_found(context) - before == {(gap_class, subject)}


def test_every_class_is_planted() -> None:
    beside_orders = {"stock_not_movements", "reserved_not_reservations", "stock_oversold", "outbox_unpublished"}
    assert CLASSES.keys() == WRONG_ORDERS.keys() | beside_orders
    assert len(CLASSES) >= 12
