"""Compute reports, and write the daily ones."""

import hashlib
from collections.abc import Callable, Coroutine, Sequence
from datetime import date, timedelta
from typing import Any

import asyncpg
from pydantic import BaseModel

from caravan.cache import CachedAnswer, Fill
from caravan.database import UnitOfWork
from caravan.errors import NotFound
from caravan.service import ServiceContext
from caravan.telemetry import log
from services.analytics import model
from services.analytics.caches import REPORTS
from services.analytics.model import Period
from services.analytics.schemas import (
    CohortLength,
    CohortsReport,
    CohortsRow,
    CustomersReport,
    CustomersRow,
    DailyReport,
    Dashboard,
    EndedOrders,
    FunnelReport,
    FunnelStep,
    Grouping,
    ProcessingTimes,
    ProductsReport,
    RefundsReport,
    RefundsRow,
    RefundSums,
    SalesReport,
    SalesRow,
    Sums,
)
from services.analytics.settings import Settings
from services.analytics.store import customers, reports
from services.notifications.messages import STANDARD_NOTIFICATIONS, SendNotification

AnalyticsContext = ServiceContext[Settings, None]

TOP_PRODUCTS = 5
HISTORY_DAYS = 14
"""Of the picture in the daily report's mail."""
OPEN_STATES = ("created", "paid", "shipped")


async def read_report(
    context: AnalyticsContext,
    report: str,
    tags: frozenset[str],
    compute: Callable[[], Coroutine[Any, Any, BaseModel]],
) -> CachedAnswer:
    """As JSON, kept until one of its tags is voided. `report`: its name and all its parameters."""

    async def fill_report() -> Fill:
        return Fill((await compute()).model_dump_json().encode(), tags)

    return await context.cache.read(REPORTS, report, fill_report)


async def report_sales(context: AnalyticsContext, period: Period, by: Grouping) -> SalesReport:
    records = await reports.fetch_sales(context.database, period.since, period.until, by)
    rows = [row for row in records if row["key"] is not None]
    return SalesReport(
        first=period.first,
        last=period.last,
        by=by,
        rows=[_to_sales_row(row) for row in rows if row["position"] <= reports.MAX_ROWS],
        totals=[Sums(**_to_sums(row)) for row in records if row["key"] is None],
        truncated=len(rows) > reports.MAX_ROWS,
    )


async def report_products(context: AnalyticsContext, period: Period, sort: Any, limit: int) -> ProductsReport:
    records = await reports.fetch_top_products(context.database, period.since, period.until, sort, limit)
    return ProductsReport(first=period.first, last=period.last, sort=sort, rows=[_to_sales_row(row) for row in records])


async def report_refunds(context: AnalyticsContext, period: Period) -> RefundsReport:
    records = await customers.fetch_refunds(context.database, period.since, period.until)
    return RefundsReport(
        first=period.first,
        last=period.last,
        rows=[RefundsRow(**dict(row)) for row in records if row["key"] is not None],
        totals=[RefundSums(**dict(row)) for row in records if row["key"] is None],
    )


async def report_customers(context: AnalyticsContext, period: Period) -> CustomersReport:
    *records, everybody = await customers.fetch_customers(context.database, period.since, period.until)
    count, repeating = everybody["customers"], everybody["repeating"]
    return CustomersReport(
        first=period.first,
        last=period.last,
        rows=[CustomersRow(**dict(row)) for row in records],
        customers=count,
        new=everybody["new"],
        repeating=repeating,
        repeat_share=model.compute_share(repeating, count),
    )


async def report_cohorts(context: AnalyticsContext, period: Period, by: CohortLength) -> CohortsReport:
    records = await customers.fetch_cohorts(context.database, period.since, period.until, by)
    rows = [CohortsRow(**dict(row), share=round(row["customers"] / row["size"], 4)) for row in records]
    return CohortsReport(first=period.first, last=period.last, by=by, rows=rows)


async def report_funnel(context: AnalyticsContext, period: Period) -> FunnelReport:
    counts = await reports.fetch_funnel(context.database, period.since, period.until)
    steps = model.compute_conversion({step: counts[step] for step in model.STEPS})
    seconds = counts["seconds"]
    return FunnelReport(
        first=period.first,
        last=period.last,
        rows=[
            FunnelStep(step=s.step, orders=s.orders, of_previous=s.of_previous, of_created=s.of_created) for s in steps
        ],
        ended=EndedOrders(
            rejected=counts["rejected"], payment_failed=counts["payment_failed"], cancelled=counts["cancelled"]
        ),
        seconds_to_process=ProcessingTimes(p50=round(seconds[0], 3), p95=round(seconds[1], 3)) if seconds else None,
    )


async def build_dashboard(context: AnalyticsContext) -> Dashboard:
    today = context.clock().date()
    today_period = Period(today, today)
    open_period = Period(today - timedelta(days=context.settings.open_days), today)
    recent = await reports.count_states(context.database, open_period.since, today_period.until)
    top = await reports.fetch_top_products(
        context.database, today_period.since, today_period.until, "revenue", TOP_PRODUCTS
    )
    sales = await reports.fetch_sales(context.database, today_period.since, today_period.until, "day")
    return Dashboard(
        day=today,
        states=await reports.count_states(context.database, today_period.since, today_period.until),
        revenue=[Sums(**_to_sums(row)) for row in sales if row["key"] is None],
        open_orders=sum(recent.get(state, 0) for state in OPEN_STATES),
        top_products=[_to_sales_row(row) for row in top],
    )


async def get_daily_report(context: AnalyticsContext, day: date) -> DailyReport:
    report = await reports.find_daily_report(context.database, day)
    if report is None:
        raise NotFound(
            f"no report of {day}: it is written within minutes after the day has ended (UTC), from the first day with "
            "an order on"
        )
    return report


async def write_daily_reports(context: AnalyticsContext) -> list[date]:
    """Write the reports of the days that have ended, and again those that late events have changed; which they were.
    Repeatable, also by several replicas at once.
    """
    now = context.clock()
    yesterday = now.date() - timedelta(days=1)
    first = yesterday - timedelta(days=context.settings.daily_days - 1)
    async with context.database.unit_of_work() as uow:
        revisions = await reports.write_daily_reports(uow, first, yesterday, now)
        if revisions.get(yesterday) == 1 and context.settings.daily_report_to:
            await _request_daily_mails(uow, yesterday, context.settings.daily_report_to)
    if revisions:
        log.info("daily reports written", days=[str(day) for day in revisions])
    return list(revisions)


async def _request_daily_mails(uow: UnitOfWork, day: date, recipients: Sequence[str]) -> None:
    """A mail to each with the report of a day that was written just now, and how revenue was before it. What late
    events change afterwards is in the report alone.
    """
    written = await reports.find_daily_documents(uow, day - timedelta(days=HISTORY_DAYS - 1), day)
    report = written[day]
    values = {
        "day": day.isoformat(),
        "orders": report["orders"],
        "states": report["states"],
        "sales": report["sales"],
        "history": model.build_history({each: document["sales"] for each, document in written.items()}),
    }
    for email in recipients:
        about = f"daily-report:{day}:{hashlib.sha256(email.encode()).hexdigest()[:16]}"
        command = SendNotification(about=about, kind="daily_report", user_id=None, email=email, values=values)
        uow.emit(STANDARD_NOTIFICATIONS, command, key=about)


def _to_sums(row: asyncpg.Record) -> dict[str, Any]:
    numbers = ("orders", "paid", "units", "captured", "refunded", "revenue")
    average = row["average_order"]
    return {
        "currency": row["currency"],
        **{name: int(row[name]) for name in numbers},
        "average_order": None if average is None else int(average),
    }


def _to_sales_row(row: asyncpg.Record) -> SalesRow:
    return SalesRow(key=row["key"], name=row["name"], **_to_sums(row))
