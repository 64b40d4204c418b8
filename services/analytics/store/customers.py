"""Reports on who bought, and who came back; each is one statement over the sales that were paid and not wholly given
back.

A customer is new in a period when no such sale of theirs was placed before it.
"""

from datetime import datetime

import asyncpg

from caravan.database import Database
from services.analytics.schemas import CohortLength
from services.analytics.store.reports import IS_SOLD

BOUGHT = f"""bought AS MATERIALIZED (
    SELECT user_id, placed_at AT TIME ZONE 'UTC' AS placed, currency, captured, refunded FROM sale
    WHERE placed_at >= $1 AND placed_at < $2 AND user_id IS NOT NULL AND {IS_SOLD})"""
HAS_BOUGHT_BEFORE = f"""EXISTS (
    SELECT FROM sale AS earlier WHERE earlier.user_id = bought.user_id AND earlier.placed_at < $1 AND {IS_SOLD})"""

COHORTS: dict[CohortLength, tuple[str, str]] = {
    "week": ("date_trunc('week', placed)", "(EXTRACT(epoch FROM step - cohort) / 604800)::int"),
    "month": (
        "date_trunc('month', placed)",
        "(EXTRACT(year FROM age(step, cohort)) * 12 + EXTRACT(month FROM age(step, cohort)))::int",
    ),
}
"""The step that a sale belongs to, and how many steps after that of the cohort it is."""


async def fetch_customers(database: Database, since: datetime, until: datetime) -> list[asyncpg.Record]:
    """New and returning customers of each currency; then all customers in a row without a currency, in which `key` is
    None, since people can be added across currencies.
    """
    return await database.fetch(
        f"WITH {BOUGHT}, buyers AS (SELECT user_id, count(*) AS times,"
        f" CASE WHEN {HAS_BOUGHT_BEFORE} THEN 'returning' ELSE 'new' END AS key FROM bought GROUP BY user_id)"
        " SELECT key, currency, count(DISTINCT user_id) AS customers,"
        " count(DISTINCT user_id) FILTER (WHERE key = 'new') AS new,"
        " count(DISTINCT user_id) FILTER (WHERE times > 1) AS repeating,"
        " count(*) AS orders, sum(captured) AS captured, sum(refunded) AS refunded,"
        " sum(captured - refunded) AS revenue, round(sum(captured) / count(*)) AS average_order"
        " FROM bought JOIN buyers USING (user_id) GROUP BY GROUPING SETS ((key, currency), ())"
        " ORDER BY key NULLS LAST, currency",
        since,
        until,
    )


async def fetch_cohorts(database: Database, since: datetime, until: datetime, by: CohortLength) -> list[asyncpg.Record]:
    """Of the customers who bought first in a week or month, how many bought in each one from then on."""
    step, number = COHORTS[by]
    return await database.fetch(
        f"WITH {BOUGHT}, steps AS (SELECT user_id, {step} AS step, count(*) AS orders FROM bought GROUP BY 1, 2),"
        " firsts AS (SELECT user_id, min(step) AS cohort FROM steps AS bought GROUP BY user_id"
        f" HAVING NOT {HAS_BOUGHT_BEFORE}),"
        " sizes AS (SELECT cohort, count(*) AS size FROM firsts GROUP BY cohort)"
        f" SELECT cohort::date AS cohort, {number} AS later, count(*) AS customers, size,"
        " sum(orders)::bigint AS orders FROM steps JOIN firsts USING (user_id) JOIN sizes USING (cohort)"
        " GROUP BY cohort, step, size ORDER BY cohort, step",
        since,
        until,
    )


async def fetch_refunds(database: Database, since: datetime, until: datetime) -> list[asyncpg.Record]:
    """What was given back, by the day on which it first was; then a total per currency, whose `key` is None."""
    return await database.fetch(
        "SELECT to_char(refunded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS key, currency, count(*) AS orders,"
        " count(*) FILTER (WHERE refunded >= captured) AS whole, sum(refunded) AS refunded FROM sale"
        " WHERE refunded_at >= $1 AND refunded_at < $2 GROUP BY GROUPING SETS ((1, currency), (currency))"
        " ORDER BY key NULLS LAST, currency",
        since,
        until,
    )
