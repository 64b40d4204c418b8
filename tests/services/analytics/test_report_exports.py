"""Reports as CSV and spreadsheets, and the daily ones that are written to files."""

import asyncio
import csv
import io
from datetime import timedelta
from typing import Any, cast

import pytest

from caravan.jobs import Cron
from services.analytics import model, use_cases
from services.analytics.jobs import jobs
from tests.services.analytics.conftest import Watch, make_order_messages, publish_messages
from tests.services.analytics.reports import YESTERDAY, get_report, make_month
from tests.support.shop import Shop


def format_cell(row: dict[str, Any], name: str) -> object:
    """As a spreadsheet's reader expects it: sums with the decimals of their currency."""
    if name not in ("captured", "refunded", "revenue", "average_order") or row[name] is None:
        return row[name]
    return {
        "GBP": f"{row[name] / 100:.2f}",
        "EUR": f"{row[name] / 100:.2f}",
        "JPY": str(row[name]),
        "KWD": f"{row[name] / 1000:.3f}",
    }[row["currency"]]


@pytest.mark.parametrize(
    ("currency", "amount", "expected"),
    [
        ("GBP", 1250, "12.50"),
        ("JPY", 3750, "3750"),
        ("KWD", 12345, "12.345"),
        ("CLF", 5, "0.0005"),
        ("ISK", 0, "0"),
        ("GBP", -150, "-1.50"),
    ],
)
def test_a_spreadsheet_gets_sums_in_the_unit_of_their_currency(currency: str, amount: int, expected: str) -> None:
    row = {"key": "MUG", "currency": currency, "orders": 1250, "captured": amount, "refunded": 0, "revenue": amount}
    (read,) = csv.DictReader(io.StringIO(model.format_csv(tuple(row), [row])))
    assert (read["captured"], read["revenue"], read["orders"]) == (expected, expected, "1250")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/reports/sales?by=product",
        "/v1/reports/sales?by=hour",
        "/v1/reports/sales?by=country",
        "/v1/reports/products?limit=5",
        "/v1/reports/customers?from=2026-01-01",
        "/v1/reports/cohorts?by=month",
        "/v1/reports/funnel?from=2026-01-01",
    ],
)
async def test_csv_holds_what_json_holds(shop: Shop, path: str) -> None:
    await publish_messages(shop, make_month())
    rows = (await get_report(shop, path))["rows"]
    by_header = await shop.client.get(path, headers={**shop.issue_headers("staff"), "accept": "text/csv"})
    by_parameter = await shop.client.get(path + "&format=csv", headers=shop.issue_headers("staff"))
    for refused in ("text/csv;q=0", "application/json, text/csv; q=0.00", "text/csv-schema"):
        answer = await shop.client.get(path, headers={**shop.issue_headers("staff"), "accept": refused})
        assert answer.headers["content-type"] == "application/json", refused
    assert by_header.headers["content-type"].startswith("text/csv")
    assert by_header.text == by_parameter.text
    read = list(csv.DictReader(io.StringIO(by_header.text)))
    expected = [
        {name: "" if value is None else str(format_cell(row, name)) for name, value in row.items()} for row in rows
    ]
    assert [{name: value.removeprefix("'") for name, value in row.items()} for row in read] == expected
    assert "=1+1" not in by_header.text.replace("'=1+1", ""), "a spreadsheet would run it"


async def test_a_daily_report_is_written_once_the_day_is_over_and_again_when_late_events_change_it(
    shop: Shop, watch: Watch
) -> None:
    context = shop.get_context("analytics")
    await use_cases.write_daily_reports(context)
    assert (
        await shop.client.get("/v1/reports/daily/2026-03-09", headers=shop.issue_headers("staff"))
    ).status_code == 404
    published = make_order_messages(YESTERDAY, ("MUG", 2), ends="paid")
    await publish_messages(shop, published[:1])
    assert await use_cases.write_daily_reports(context) == [YESTERDAY.date()]
    assert await use_cases.write_daily_reports(context) == []
    report = await get_report(shop, "/v1/reports/daily/2026-03-09")
    assert (report["revision"], report["orders"], report["states"], report["sales"][0]["revenue"]) == (
        1,
        1,
        {"created": 1},
        0,
    )
    assert (
        await shop.client.get("/v1/reports/daily/2026-03-10", headers=shop.issue_headers("staff"))
    ).status_code == 404
    await publish_messages(shop, published)
    watch.now += timedelta(days=2)
    await use_cases.write_daily_reports(context)
    report = await get_report(shop, "/v1/reports/daily/2026-03-09")
    assert (report["revision"], report["states"], report["sales"][0]["revenue"]) == (2, {"paid": 1}, 2500)
    assert (await get_report(shop, "/v1/reports/daily/2026-03-10"))["sales"] == [], (
        "a day without orders has a report, too"
    )


async def test_the_job_writes_a_report_once_however_many_run(shop: Shop, watch: Watch) -> None:
    await publish_messages(shop, make_order_messages(YESTERDAY, ("MUG", 2), ends="paid"))
    context, job = shop.get_context("analytics"), cast(Any, None)
    (declared,) = jobs.job_types.values()
    assert (declared.global_concurrency, declared.schedule) == (1, Cron("*/5 * * * *"))
    results = await asyncio.gather(*(declared.run(context, job) for _ in range(4)))
    assert sorted(result["written"] for result in results) == [[], [], [], ["2026-03-09"]]
    assert (await get_report(shop, "/v1/reports/daily/2026-03-09"))["revision"] == 1
