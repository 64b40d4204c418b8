"""Answer with a report, and write the daily ones."""

from datetime import date, timedelta
from typing import Any

import asyncpg
import orjson

from caravan.errors import NotFound
from caravan.service import Context
from caravan.telemetry import log
from services.analytics import model
from services.analytics.model import Period
from services.analytics.schemas import (
    DailyReport,
    Dashboard,
    Ended,
    FunnelReport,
    FunnelStep,
    ProductsReport,
    SalesReport,
    SalesRow,
    Seconds,
    Sums,
)
from services.analytics.settings import Settings
from services.analytics.store import reports
from services.analytics.store.reports import By

AnalyticsContext = Context[Settings, None]

TOP = 5
OPEN_STATES = ("created", "paid", "shipped")


async def report_sales(context: AnalyticsContext, period: Period, by: By) -> SalesReport:
    found = await reports.sales(context.database, period.since, period.until, by)
    rows = [row for row in found if row["key"] is not None]
    return SalesReport(
        first=period.first,
        last=period.last,
        by=by,
        rows=[_sales_row(row) for row in rows if row["place"] <= reports.ROWS],
        totals=[Sums(**_sums(row)) for row in found if row["key"] is None],
        truncated=len(rows) > reports.ROWS,
    )


async def report_products(context: AnalyticsContext, period: Period, sort: Any, limit: int) -> ProductsReport:
    found = await reports.top_products(context.database, period.since, period.until, sort, limit)
    return ProductsReport(first=period.first, last=period.last, sort=sort, rows=[_sales_row(row) for row in found])


async def report_funnel(context: AnalyticsContext, period: Period) -> FunnelReport:
    found = await reports.funnel(context.database, period.since, period.until)
    steps = model.conversion({step: found[step] for step in model.STEPS})
    seconds = found["seconds"]
    return FunnelReport(
        first=period.first,
        last=period.last,
        rows=[FunnelStep(step=s.step, orders=s.orders, of_previous=s.of_previous, of_created=s.of_created) for s in steps],
        ended=Ended(rejected=found["rejected"], payment_failed=found["payment_failed"], cancelled=found["cancelled"]),
        seconds_to_process=Seconds(p50=round(seconds[0], 3), p95=round(seconds[1], 3)) if seconds else None,
    )


async def show_dashboard(context: AnalyticsContext) -> Dashboard:
    today = context.clock().date()
    now = Period(today, today)
    lately = Period(today - timedelta(days=context.settings.open_days), today)
    recent = await reports.states(context.database, lately.since, now.until)
    top = await reports.top_products(context.database, now.since, now.until, "revenue", TOP)
    sales = await reports.sales(context.database, now.since, now.until, "day")
    return Dashboard(
        day=today,
        states=await reports.states(context.database, now.since, now.until),
        revenue=[Sums(**_sums(row)) for row in sales if row["key"] is None],
        open_orders=sum(recent.get(state, 0) for state in OPEN_STATES),
        top_products=[_sales_row(row) for row in top],
    )


async def read_daily(context: AnalyticsContext, day: date) -> DailyReport:
    row = await reports.daily(context.database, day)
    if row is None:
        raise NotFound(
            f"no report of {day}: it is written within minutes after the day has ended (UTC), from the first day with an order on"
        )
    return DailyReport(day=row["day"], revision=row["revision"], written_at=row["written_at"], **orjson.loads(row["document"]))


async def write_daily(context: AnalyticsContext) -> bool:
    """Write the reports of the days that have ended, and again those that late events have changed. Repeatable, also by several replicas at once."""
    now = context.clock()
    yesterday = now.date() - timedelta(days=1)
    first = yesterday - timedelta(days=context.settings.daily_days - 1)
    async with context.database.work() as work:
        written = await reports.write_daily(work, first, yesterday, now)
    if written:
        log.info("daily reports written", days=[str(day) for day in written])
    return False


def _sums(row: asyncpg.Record) -> dict[str, Any]:
    numbers = ("orders", "paid", "units", "captured", "refunded", "revenue")
    return {"currency": row["currency"], **{name: int(row[name]) for name in numbers}}


def _sales_row(row: asyncpg.Record) -> SalesRow:
    return SalesRow(key=row["key"], name=row["name"], **_sums(row))
