"""Compares the books of a page of orders. What does not add up is read again, with the provider asked for its keys,
before it counts: books are read one after the other, while the shop goes on.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from services.payments.client import READ_STATEMENT, StatementRequest
from services.reconciliation.model.books import OrderBooks, StatementLine
from services.reconciliation.model.classes import Gap
from services.reconciliation.model.verdict import Verdict, assess_order
from services.reconciliation.store import books as books_store
from services.reconciliation.store import statement
from services.reconciliation.store.books import Books
from services.reconciliation.use_cases import ReconciliationContext

ASKED_AT_ONCE = 500
"""Orders of which the provider is asked in one call."""


@dataclass(slots=True)
class PageResult:
    """`settled`: orders of which everything that is wrong is among the gaps; `moving`: those to look at again."""

    gaps: list[Gap] = field(default_factory=list)
    settled: set[UUID] = field(default_factory=set)
    moving: set[UUID] = field(default_factory=set)


async def compare_orders(
    context: ReconciliationContext,
    books: Books,
    order_ids: Sequence[UUID],
    watermark: datetime,
    run_id: UUID,
    *,
    has_fresh_statement: bool,
) -> PageResult:
    """`has_fresh_statement`: the copy of the provider's books was read as a whole just now."""
    if not has_fresh_statement:
        await refresh_lines(context, order_ids, run_id)
    verdicts = await _assess_page(context, books, order_ids, watermark)
    suspects = [order_id for order_id, verdict in verdicts.items() if verdict.gaps]
    if suspects:
        await refresh_lines(context, suspects, run_id)
        verdicts |= await _assess_page(context, books, suspects, watermark, is_confirming=True)
    result = PageResult()
    for order_id, verdict in verdicts.items():
        result.gaps += verdict.gaps
        (result.settled if verdict.is_final else result.moving).add(order_id)
    return result


async def _assess_page(
    context: ReconciliationContext,
    books: Books,
    order_ids: Sequence[UUID],
    watermark: datetime,
    *,
    is_confirming: bool = False,
) -> dict[UUID, Verdict]:
    stuck_before = watermark - timedelta(seconds=context.settings.stuck_seconds)
    pages = await books_store.read_orders(books, order_ids)
    if is_confirming:
        for order_id in await books_store.find_unsent(books, order_ids):
            pages[order_id].has_unsent = True
    add_lines(pages, await statement.read_lines(context.database, order_ids))
    return {order_id: assess_order(page, watermark, stuck_before) for order_id, page in pages.items()}


def add_lines(pages: dict[UUID, OrderBooks], lines: Sequence[tuple[UUID, StatementLine]]) -> None:
    for order_id, line in lines:
        pages[order_id].lines.append(line)


async def refresh_lines(context: ReconciliationContext, order_ids: Collection[UUID], run_id: UUID) -> None:
    """What the provider has of these orders now."""
    ids = list(order_ids)
    for first in range(0, len(ids), ASKED_AT_ONCE):
        asked = ids[first : first + ASKED_AT_ONCE]
        answer = await context.call(READ_STATEMENT, StatementRequest(references=[str(each) for each in asked]))
        await statement.forget_others(context.database, asked, [entry.key for entry in answer.items])
        await statement.save_entries(context.database, answer.items, run_id)
