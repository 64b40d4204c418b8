"""Compares the stock of every product with its movements and with what orders hold, and looks for messages that were
never published. Each statement sees one moment of one database, so that nothing has to be read twice.
"""

from datetime import datetime, timedelta

import asyncpg

from services.reconciliation.model.classes import Gap
from services.reconciliation.store import books as books_store
from services.reconciliation.store import runs
from services.reconciliation.store.books import OUTBOXES, Books
from services.reconciliation.store.stock import (
    StockComparison,
    StockSums,
    compare_stock,
    list_held_differently,
    list_rows,
)
from services.reconciliation.use_cases import ReconciliationContext

STOCK_CLASSES = frozenset({"stock_not_movements", "reserved_not_reservations", "stock_oversold"})
OUTBOX_CLASSES = frozenset({"outbox_unpublished"})
_PAGE = 1000
_NOT_THERE = (
    OSError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedTableError,
)
"""The service of a database has not been started yet in this installation."""


async def find_stock_gaps(context: ReconciliationContext, books: Books, *, is_full: bool) -> tuple[list[Gap], int]:
    """Of all products, and their number. Only those that have changed are added up; all, when `is_full`."""
    gaps: list[Gap] = []
    count, after = 0, ""
    while rows := await list_rows(books, after, _PAGE):
        checked = await runs.list_checked(context.database, rows)
        changed = [sku for sku, row in rows.items() if is_full or checked.get(sku) != row]
        if changed:
            found, right = await compare_products(books, changed, {} if is_full else checked)
            gaps += found
            await runs.save_checked(context.database, right)
        count, after = count + len(rows), max(rows)
    return gaps + await find_held_gaps(books), count


async def compare_products(
    books: Books, skus: list[str], checked: dict[str, StockSums]
) -> tuple[list[Gap], dict[str, StockSums]]:
    """What is wrong, and the sums of what is right."""
    gaps: list[Gap] = []
    right: dict[str, StockSums] = {}
    comparisons = await compare_stock(books, skus, checked)
    wrong = [each.sku for each in comparisons if each.row != each.sums]
    # Where the difference came in is told by all movements.
    again = {each.sku: each for each in await compare_stock(books, wrong, {})} if wrong and checked else {}
    for comparison in (again.get(each.sku, each) for each in comparisons):
        if comparison.row == comparison.sums:
            right[comparison.sku] = comparison.sums
        else:
            gaps.append(_describe_difference(comparison))
        row = comparison.row
        if row.on_hand < 0 or row.reserved < 0 or row.reserved > row.on_hand:
            details = {"on_hand": row.on_hand, "reserved": row.reserved}
            gaps.append(Gap("stock_oversold", comparison.sku, details=details))
    return gaps, right


def _describe_difference(comparison: StockComparison) -> Gap:
    details = {
        name: {"row": row, "movements": moved}
        for name, row, moved in zip(StockSums._fields, comparison.row, comparison.sums, strict=True)
        if row != moved
    }
    return Gap("stock_not_movements", comparison.sku, details=details)


async def find_held_gaps(books: Books) -> list[Gap]:
    return [
        Gap("reserved_not_reservations", sku, details={"reserved": reserved, "held": held})
        for sku, reserved, held in await list_held_differently(books)
    ]


async def find_outbox_gaps(
    context: ReconciliationContext, books: Books, databases: tuple[str, ...] = OUTBOXES
) -> tuple[list[Gap], list[str]]:
    """And the databases that could not be read."""
    now, settings = context.clock(), context.settings
    before = now - timedelta(seconds=settings.outbox_seconds)
    refused_before = now - timedelta(seconds=settings.settle_seconds)
    gaps: list[Gap] = []
    unread: list[str] = []
    for database in databases:
        try:
            gaps += await list_outbox_gaps(books, database, before, refused_before)
        except _NOT_THERE:
            unread.append(database)
    return gaps, unread


async def list_outbox_gaps(books: Books, database: str, before: datetime, refused_before: datetime) -> list[Gap]:
    return [
        Gap(
            "outbox_unpublished",
            f"{database}:{channel}",
            details={"messages": count, "oldest": oldest.isoformat(), "refused": refused},
        )
        for channel, count, oldest, refused in await books_store.list_overdue(books, database, before, refused_before)
    ]
