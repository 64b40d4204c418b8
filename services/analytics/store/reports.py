"""Reports, computed from what was sold and from how far orders have come. Each is one statement, so that its rows and
totals show the same moment.

An order belongs to the hour and the day (UTC) in which it was placed, whenever its money moves. What an order captured
and gave back is spread over its lines by their amounts: exact for an order that is wholly captured or wholly given
back.

Sums are ranked within their currency: 5,000 yen are no more than 40 pounds because there are more minor units of them.
"""

from datetime import date, datetime
from typing import Any

import asyncpg
import orjson
from sqlalchemy import bindparam, select

from caravan.database import Database, UnitOfWork
from caravan.database.query import Query
from caravan.database.tables import col
from services.analytics import tables
from services.analytics.schemas import DailyReport, Grouping, Ranking

MAX_ROWS = 10_000
"""So many rows of a report are given out: the first hours, or of each currency those with the most revenue."""

STATE = """CASE
    WHEN cancelled_at IS NOT NULL OR outcome = 'cancelled' THEN
        CASE WHEN refunded > 0 THEN 'refunded' ELSE 'cancelled' END
    WHEN outcome IN ('rejected', 'payment_failed') THEN outcome
    WHEN delivered_at IS NOT NULL THEN 'delivered'
    WHEN shipped_at IS NOT NULL THEN 'shipped'
    WHEN paid_at IS NOT NULL OR outcome = 'completed' THEN 'paid'
    ELSE 'created' END"""
IS_SOLD = "paid_at IS NOT NULL AND (refunded = 0 OR refunded < captured)"
"""Paid and not wholly given back: its units were sold."""

FACTS = """facts AS MATERIALIZED (
    SELECT order_id, placed_at AT TIME ZONE 'UTC' AS placed, coalesce(country, 'ZZ') AS country, total, currency, units,
        captured, refunded, paid_at
    FROM sale WHERE placed_at >= $1 AND placed_at < $2)"""
SUMS = f"""count(*) AS orders, count(paid_at) AS paid, coalesce(sum(units) FILTER (WHERE {IS_SOLD}), 0) AS units,
    sum(captured) AS captured, sum(refunded) AS refunded, sum(captured - refunded) AS revenue,
    round(sum(captured) / NULLIF(count(paid_at), 0)) AS average_order"""
LINES = f"""lines AS (
    SELECT order_id, sku, name, category, currency, paid_at, CASE WHEN {IS_SOLD} THEN quantity ELSE 0 END AS units,
        coalesce(floor(unit_price::numeric * quantity * captured / NULLIF(total, 0)), 0) AS captured,
        coalesce(floor(unit_price::numeric * quantity * refunded / NULLIF(total, 0)), 0) AS refunded
    FROM facts JOIN order_line_fact USING (order_id))"""
LINE_SUMS = """count(DISTINCT order_id) AS orders,
    count(DISTINCT order_id) FILTER (WHERE paid_at IS NOT NULL) AS paid, sum(units) AS units,
    sum(captured) AS captured, sum(refunded) AS refunded, sum(captured - refunded) AS revenue,
    round(sum(captured) / NULLIF(count(DISTINCT order_id) FILTER (WHERE paid_at IS NOT NULL), 0)) AS average_order"""

DAY = "(placed_at AT TIME ZONE 'UTC')::date"
PLACED_IN_DAYS = (
    "placed_at >= $1::date::timestamp AT TIME ZONE 'UTC' AND placed_at < ($2::date + 1)::timestamp AT TIME ZONE 'UTC'"
)

RANK = "row_number() OVER (PARTITION BY currency ORDER BY sum(captured - refunded) DESC, sum(units) DESC, {key})"
"""Of a row among those of its currency."""

ROWS_BY: dict[Grouping, str] = {
    "hour": f"""SELECT to_char(placed, 'YYYY-MM-DD"T"HH24:00:00"Z"') AS key, NULL AS name, currency, {SUMS} FROM facts
        GROUP BY 1, 3 ORDER BY 1, 3""",
    "day": (
        f"SELECT to_char(placed, 'YYYY-MM-DD') AS key, NULL AS name, currency, {SUMS} FROM facts GROUP BY 1, 3"
        " ORDER BY 1, 3"
    ),
    "product": (
        f"SELECT sku AS key, max(name) AS name, currency, {LINE_SUMS} FROM lines GROUP BY sku, currency"
        f" ORDER BY {RANK.format(key='sku')}, 3"
    ),
    "category": (
        f"SELECT category AS key, NULL AS name, currency, {LINE_SUMS} FROM lines GROUP BY category, currency"
        f" ORDER BY {RANK.format(key='category')}, 3"
    ),
    "country": (
        f"SELECT country AS key, NULL AS name, currency, {SUMS} FROM facts GROUP BY country, currency"
        f" ORDER BY {RANK.format(key='country')}, 3"
    ),
}


def _to_daily_report(day: date, document: str, revision: int, written_at: datetime) -> DailyReport:
    return DailyReport(day=day, revision=revision, written_at=written_at, **orjson.loads(document))


def _to_daily_document(day: date, document: str) -> tuple[date, dict[str, Any]]:
    return day, orjson.loads(document)


_FIND_DAILY_REPORT = Query(
    select(tables.DailyReport).where(col(tables.DailyReport.day) == bindparam("day")), _to_daily_report
)
_FIND_DAILY_DOCUMENTS = Query(
    select(col(tables.DailyReport.day), col(tables.DailyReport.document)).where(
        col(tables.DailyReport.day) >= bindparam("first"), col(tables.DailyReport.day) <= bindparam("last")
    ),
    _to_daily_document,
)


async def fetch_sales(database: Database, since: datetime, until: datetime, by: Grouping) -> list[asyncpg.Record]:
    """Rows by hour, day, product, category or country, at most MAX_ROWS + 1, of which the one that is too many has the
    position after MAX_ROWS; then a total per currency, whose `key` is None. All but hours and days come currency by
    currency.
    """
    ranked = by not in ("hour", "day")
    lines = f", {LINES}" if by in ("product", "category") else ""
    return await database.fetch(
        f"WITH {FACTS}{lines}, ranked_rows AS ({ROWS_BY[by]} LIMIT {MAX_ROWS + 1})"
        " SELECT * FROM (SELECT row_number() OVER () AS position, * FROM ranked_rows UNION ALL"
        f" SELECT NULL, NULL, NULL, currency, {SUMS} FROM facts GROUP BY currency) AS report"
        f" ORDER BY position IS NULL, {'currency, position' if ranked else 'position, currency'}",
        since,
        until,
    )


async def fetch_top_products(
    database: Database, since: datetime, until: datetime, sort: Ranking, limit: int
) -> list[asyncpg.Record]:
    """By revenue the first `limit` of each currency; by units, which are alike in all of them, the first of all."""
    condition, order = (
        ("rank <= $3", "currency, rank") if sort == "revenue" else ("true", "units DESC, rank, key, currency LIMIT $3")
    )
    return await database.fetch(
        f"WITH {FACTS}, {LINES}, ranked AS (SELECT sku AS key, max(name) AS name, currency, {LINE_SUMS},"
        f" {RANK.format(key='sku')} AS rank"
        f" FROM lines GROUP BY sku, currency) SELECT * FROM ranked WHERE {condition} ORDER BY {order}",
        since,
        until,
        limit,
    )


async def fetch_funnel(database: Database, since: datetime, until: datetime) -> asyncpg.Record:
    """How many orders reached each step. Later steps prove the earlier ones, so that a late message never makes a
    funnel that widens.
    """
    row = await database.fetchrow(
        "WITH steps AS (SELECT outcome, cancelled_at, EXTRACT(epoch FROM processed_at - placed_at)::float8 AS seconds,"
        " delivered_at IS NOT NULL AS delivered, coalesce(delivered_at, shipped_at) IS NOT NULL AS shipped,"
        " outcome IS NOT DISTINCT FROM 'completed' OR coalesce(delivered_at, shipped_at, paid_at) IS NOT NULL AS paid"
        " FROM order_fact WHERE placed_at >= $1 AND placed_at < $2)"
        " SELECT count(*) AS created, count(*) FILTER (WHERE paid OR outcome = 'payment_failed') AS reserved,"
        " count(*) FILTER (WHERE paid) AS paid,"
        " count(*) FILTER (WHERE shipped) AS shipped, count(*) FILTER (WHERE delivered) AS delivered,"
        " count(*) FILTER (WHERE outcome = 'rejected') AS rejected,"
        " count(*) FILTER (WHERE outcome = 'payment_failed') AS payment_failed,"
        " count(*) FILTER (WHERE cancelled_at IS NOT NULL OR outcome = 'cancelled') AS cancelled,"
        " percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY GREATEST(seconds,"
        " 0)) FILTER (WHERE outcome = 'completed') AS seconds FROM steps",
        since,
        until,
    )
    assert row is not None
    return row


async def count_states(database: Database, since: datetime, until: datetime) -> dict[str, int]:
    """How many of the orders placed in a time are in which state."""
    rows = await database.fetch(
        f"SELECT {STATE} AS state, count(*) AS orders FROM order_fact WHERE placed_at >= $1 AND placed_at < $2"
        " GROUP BY 1 ORDER BY 1",
        since,
        until,
    )
    return {row["state"]: row["orders"] for row in rows}


async def write_daily_reports(uow: UnitOfWork, first: date, last: date, now: datetime) -> dict[date, int]:
    """Write the reports of these days, from the first day with an order on; the days whose report is new or differs
    from the written one, each with its revision.
    """
    rows = await uow.fetch(
        f"WITH sums AS (SELECT {DAY} AS day, currency, {SUMS} FROM sale WHERE {PLACED_IN_DAYS} GROUP BY 1, currency),"
        " sales AS (SELECT day, jsonb_agg(to_jsonb(sums) - 'day'"
        " ORDER BY currency) AS rows, sum(orders) AS orders FROM sums GROUP BY day),"
        " states AS (SELECT day, jsonb_object_agg(state, orders) AS orders_by_state"
        f" FROM (SELECT {DAY} AS day, {STATE} AS state, count(*) AS orders FROM order_fact WHERE {PLACED_IN_DAYS}"
        " GROUP BY 1, 2) AS counted"
        " GROUP BY day)"
        " INSERT INTO daily_report (day, document, written_at) SELECT d::date,"
        " jsonb_build_object('orders', coalesce(orders, 0),"
        " 'states', coalesce(orders_by_state, '{}'), 'sales', coalesce(rows, '[]')), $3"
        " FROM generate_series((SELECT GREATEST($1::date::timestamp, date_trunc('day',"
        " min(placed_at) AT TIME ZONE 'UTC')) FROM sale"
        " HAVING min(placed_at) IS NOT NULL), $2::date::timestamp, interval '1 day') AS d"
        " LEFT JOIN sales ON sales.day = d::date LEFT JOIN states ON states.day = d::date ORDER BY d"
        " ON CONFLICT (day) DO UPDATE SET document = EXCLUDED.document, revision = daily_report.revision + 1,"
        " written_at = EXCLUDED.written_at"
        " WHERE daily_report.document <> EXCLUDED.document RETURNING day, revision",
        first,
        last,
        now,
    )
    return {row["day"]: row["revision"] for row in rows}


async def find_daily_documents(uow: UnitOfWork, first: date, last: date) -> dict[date, dict[str, Any]]:
    """What the written reports of these days say."""
    return dict(await _FIND_DAILY_DOCUMENTS.fetch_all(uow, first=first, last=last))


async def find_daily_report(database: Database, day: date) -> DailyReport | None:
    return await _FIND_DAILY_REPORT.fetch_one(database, day=day)
