"""Who bought, who came back, and what was given back."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

from caravan.clock import new_id
from tests.services.analytics.conftest import NOON, make_order_messages, publish_messages
from tests.services.analytics.reports import DAY, get_report
from tests.support.shop import Shop

MARCH = {"from": "2026-03-01", "to": "2026-03-31"}


def make_customers() -> list[Any]:
    """Ada: January, and twice in March. Bob: twice in March, in two currencies. Cyd: once, given back. Dee: refused."""
    ada, bob, cyd, dee = (new_id() for _ in range(4))
    return [
        *make_order_messages(NOON - timedelta(days=60), ("MUG", 1), user_id=ada),
        *make_order_messages(NOON - timedelta(days=7), ("MUG", 1), user_id=ada),
        *make_order_messages(NOON, ("MUG", 3), user_id=ada),
        *make_order_messages(NOON - timedelta(days=8), ("LAMP", 1), user_id=bob),
        *make_order_messages(NOON, ("FORMULA", 5), user_id=bob, currency="EUR"),
        *make_order_messages(NOON, ("MUG", 1), user_id=cyd, ends="refunded"),
        *make_order_messages(NOON, ("MUG", 1), user_id=dee, ends="rejected"),
    ]


async def test_new_and_returning_customers_are_told_apart_in_each_currency(shop: Shop) -> None:
    published = make_customers()
    await publish_messages(shop, published, seed=4)
    report = await get_report(shop, "/v1/reports/customers", **MARCH)
    assert {name: report[name] for name in ("customers", "new", "repeating", "repeat_share")} == {
        "customers": 2,
        "new": 1,
        "repeating": 2,
        "repeat_share": 1.0,
    }
    columns = ("key", "currency", "customers", "repeating", "orders", "captured", "revenue", "average_order")
    assert [tuple(row[name] for name in columns) for row in report["rows"]] == [
        ("new", "EUR", 1, 1, 1, 500, 500, 500),
        ("new", "GBP", 1, 1, 1, 4000, 4000, 4000),
        ("returning", "GBP", 1, 1, 2, 5000, 5000, 2500),
    ]
    await publish_messages(shop, published, seed=5, times=3)
    assert await get_report(shop, "/v1/reports/customers", **MARCH) == report


async def test_a_cohort_is_followed_from_its_first_order_on(shop: Shop) -> None:
    await publish_messages(shop, make_customers())
    columns = ("cohort", "later", "customers", "share", "orders")
    weeks = await get_report(shop, "/v1/reports/cohorts", **MARCH)
    assert [tuple(row[name] for name in columns) for row in weeks["rows"]] == [
        ("2026-03-02", 0, 1, 1.0, 1),
        ("2026-03-02", 1, 1, 1.0, 1),
    ]
    months = await get_report(shop, "/v1/reports/cohorts", by="month", **{"from": "2026-01-01", "to": "2026-03-31"})
    assert [tuple(row[name] for name in columns) for row in months["rows"]] == [
        ("2026-01-01", 0, 1, 1.0, 1),
        ("2026-01-01", 2, 1, 1.0, 2),
        ("2026-03-01", 0, 1, 1.0, 2),
    ]


async def test_months_are_counted_across_the_year(shop: Shop) -> None:
    user = new_id()
    for month in (datetime(2025, 11, 30, 23, 59, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)):
        await publish_messages(shop, make_order_messages(month, ("MUG", 1), user_id=user))
    report = await get_report(shop, "/v1/reports/cohorts", by="month", **{"from": "2025-11-01", "to": "2026-03-01"})
    assert [(row["cohort"], row["later"]) for row in report["rows"]] == [("2025-11-01", 0), ("2025-11-01", 3)]


async def test_refunds_count_on_the_day_of_the_refund_and_currency_by_currency(shop: Shop) -> None:
    """The orders are of days before; money was given back today."""
    before = NOON - timedelta(days=3)
    await publish_messages(
        shop,
        [
            *make_order_messages(before, ("MUG", 1), ends="refunded"),
            *make_order_messages(before, ("LAMP", 1), ends="refunded"),
            *make_order_messages(before, ("FORMULA", 5), ends="refunded", currency="EUR"),
            *make_order_messages(before, ("MUG", 1)),
        ],
    )
    today = await shop.get_database("analytics").fetchval("SELECT to_char(max(refunded_at), 'YYYY-MM-DD') FROM sale")
    report = await get_report(shop, "/v1/reports/refunds", **{"from": today, "to": today})
    eur, gbp = (
        {"currency": currency, "orders": orders, "whole": orders, "refunded": refunded}
        for currency, orders, refunded in (("EUR", 1, 500), ("GBP", 2, 5250))
    )
    assert report["rows"] == [{**eur, "key": today}, {**gbp, "key": today}]
    assert report["totals"] == [eur, gbp]
    answer = await shop.client.get(
        "/v1/reports/refunds", params={"from": today, "format": "csv"}, headers=shop.issue_headers("staff")
    )
    assert [row["refunded"] for row in csv.DictReader(io.StringIO(answer.text))] == ["5.00", "52.50"]


async def test_a_period_without_customers_is_a_report_too(shop: Shop) -> None:
    report = await get_report(shop, "/v1/reports/customers", **DAY)
    assert (report["customers"], report["repeat_share"], report["rows"]) == (0, None, [])
    assert (await get_report(shop, "/v1/reports/cohorts", **DAY))["rows"] == []
    assert (await get_report(shop, "/v1/reports/refunds", **DAY))["totals"] == []
