"""Money in is money explained: what the provider has captured and given back by day, and what open cases question."""

from datetime import UTC, date, datetime, time, timedelta

from services.reconciliation.model.classes import CLASSES
from services.reconciliation.schemas import MoneyReport, MoneyRow
from services.reconciliation.store import runs, statement
from services.reconciliation.use_cases import ReconciliationContext

MONEY_CLASSES = [each.name for each in CLASSES.values() if each.invariant in ("I1", "I3")]


async def report_money(context: ReconciliationContext, first: date, last: date) -> MoneyReport:
    """`last` is included."""
    begin, end = (datetime.combine(day, time(), UTC) for day in (first, last + timedelta(days=1)))
    found = await runs.find_last(context.database)
    rows = [
        MoneyRow(
            day=row.day,
            currency=row.currency,
            captured=row.captured,
            refunded=row.refunded,
            captured_explained=row.captured - row.captured_in_question,
            refunded_explained=row.refunded - row.refunded_in_question,
            net=row.captured - row.refunded,
            net_explained=row.captured - row.captured_in_question - row.refunded + row.refunded_in_question,
            unexplained=row.captured_in_question + row.refunded_in_question,
        )
        for row in await statement.sum_money(context.database, begin, end, MONEY_CLASSES)
    ]
    return MoneyReport(first=first, last=last, watermark=found.watermark if found else None, rows=rows)
