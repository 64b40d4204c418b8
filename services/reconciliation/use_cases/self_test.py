"""Plants a gap of every class in tables that nobody else sees, and looks whether each is found as what it is.

The tables are temporary ones of a transaction that is rolled back, under the names of the services' own: the same
statements read them, and the same rules assess what they say. Nothing real is read, written or locked.
"""

from datetime import timedelta

from caravan.clock import new_id
from caravan.telemetry import log
from services.reconciliation.model.classes import CLASSES, Gap
from services.reconciliation.model.planted import (
    GOOD_ORDERS,
    LEAKED_SKU,
    LOST_SKU,
    OUTBOX_CHANNEL,
    OVERSOLD_SKU,
    PLANTED_ORDERS,
    build_rows,
    list_lines,
)
from services.reconciliation.model.verdict import assess_order
from services.reconciliation.store.books import read_orders
from services.reconciliation.store.scratch import create_books
from services.reconciliation.store.stock import list_rows
from services.reconciliation.use_cases import ReconciliationContext
from services.reconciliation.use_cases.compare_stock import compare_products, find_held_gaps, list_outbox_gaps

_AGE = timedelta(hours=1)
_OUTBOX_DATABASE = "payments"


class _RollBack(Exception):
    pass


async def run_self_test(context: ReconciliationContext) -> list[str]:
    """The classes of which the planted gap was not found, or that were found where nothing was planted."""
    now, settings = context.clock(), context.settings
    orders = {new_id(): planted for planted in (*GOOD_ORDERS, *PLANTED_ORDERS.values())}
    expected = {
        (name, str(order_id)) for name, order_id in zip(PLANTED_ORDERS, list(orders)[len(GOOD_ORDERS) :], strict=True)
    }
    expected |= {
        ("stock_not_movements", LOST_SKU),
        ("reserved_not_reservations", LEAKED_SKU),
        ("stock_oversold", OVERSOLD_SKU),
        ("outbox_unpublished", f"{_OUTBOX_DATABASE}:{OUTBOX_CHANNEL}"),
    }
    stuck_before = now - timedelta(seconds=settings.stuck_seconds)
    old_age = now - stuck_before + timedelta(seconds=settings.outbox_seconds) + _AGE
    gaps: list[Gap] = []
    try:
        async with context.database.unit_of_work() as uow:
            books = await create_books(uow, build_rows(orders, now, _AGE, old_age))
            pages = await read_orders(books, list(orders))
            for order_id, planted in orders.items():
                age = old_age if planted.is_old else _AGE
                pages[order_id].lines += list_lines(order_id, planted, now - age)
                gaps += assess_order(pages[order_id], now - _AGE / 2, stuck_before).gaps
            gaps += (await compare_products(books, list(await list_rows(books, "", 100)), {}))[0]
            gaps += await find_held_gaps(books)
            before = now - timedelta(seconds=settings.outbox_seconds)
            gaps += await list_outbox_gaps(books, _OUTBOX_DATABASE, before, before)
            raise _RollBack
    except _RollBack:
        pass
    missed = expected ^ {(gap.gap_class, gap.subject) for gap in gaps}
    failures = sorted({name for name, _ in missed} | (CLASSES.keys() - {name for name, _ in expected}))
    if failures:
        log.error("self-test of reconciliation failed", classes=failures)
    return failures
