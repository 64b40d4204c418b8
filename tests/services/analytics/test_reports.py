"""Reports through HTTP."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.errors import InvalidRequest
from services.analytics import model, use_cases
from services.analytics.store import reports
from tests.services.analytics.conftest import NOON, Watch, empty, make_order_messages, publish_messages
from tests.support.shop import Shop

DAY = {"from": "2026-03-10", "to": "2026-03-10"}
YESTERDAY = NOON - timedelta(days=1)


async def get(shop: Shop, path: str, role: str = "staff", **parameters: Any) -> Any:
    answer = await shop.client.get(path, params=parameters or None, headers=shop.issue_headers(role))
    assert answer.status_code == 200, answer.text
    return answer.json()


def make_month() -> list[Any]:
    """Two days, all ends, two currencies."""
    return [
        *make_order_messages(YESTERDAY, ("MUG", 2), ends="delivered"),
        *make_order_messages(NOON - timedelta(hours=2), ("MUG", 1), ("LAMP", 1), ends="shipped"),
        *make_order_messages(NOON, ("MUG", 3), ("LAMP", 2), ends="refunded"),
        *make_order_messages(NOON, ("LAMP", 1), ends="rejected"),
        *make_order_messages(NOON, ("LAMP", 1), ends="payment_failed"),
        *make_order_messages(NOON, ("MUG", 1), ends="created"),
        *make_order_messages(NOON, ("FORMULA", 5), ends="paid", currency="EUR"),
    ]


async def tables(shop: Shop) -> list[list[Any]]:
    """All facts, but for the times that the envelopes of this telling bring."""
    database = shop.get_database("analytics")
    facts = await database.fetch(
        "SELECT order_id, user_id, placed_at, total, currency, units, outcome, processed_at, captured, paid_at, "
        "refunded, refunded_at, shipped_at,"
        " delivered_at, cancelled_at FROM order_fact ORDER BY order_id"
    )
    return [list(facts), list(await database.fetch("SELECT * FROM order_line_fact ORDER BY order_id, line"))]


def without_times(rows: list[list[Any]]) -> list[list[Any]]:
    def plain(row: Any) -> dict[str, Any]:
        return {
            name: value is not None if name.endswith("_at") and name != "placed_at" else value
            for name, value in row.items()
        }

    return [[plain(row) for row in table] for table in rows]


@pytest.mark.parametrize("seed", [1, 2])
async def test_messages_that_come_five_times_and_in_any_order_leave_the_same_facts(shop: Shop, seed: int) -> None:
    published = make_month()
    await publish_messages(shop, published)
    once, sales = await tables(shop), await get(shop, "/v1/reports/sales", by="product", **{"from": "2026-03-01"})
    await publish_messages(shop, published, seed=seed, times=5)
    assert await tables(shop) == once
    await empty(shop)
    await publish_messages(shop, published, seed=seed, times=5)
    assert without_times(await tables(shop)) == without_times(once)
    assert await get(shop, "/v1/reports/sales", by="product", **{"from": "2026-03-01"}) == sales


async def test_answers_that_a_service_gives_twice_count_once(shop: Shop) -> None:
    published = make_order_messages(NOON, ("MUG", 2), ends="refunded")
    await publish_messages(shop, published)
    once = await tables(shop)
    for item in published:
        item.id = UUID(int=item.id.int ^ 1)  # the same fact in a message of its own
    await publish_messages(shop, published, seed=3)
    assert await tables(shop) == once


async def test_revenue_is_what_was_captured_less_what_was_given_back(shop: Shop) -> None:
    await publish_messages(shop, make_month())
    report = await get(shop, "/v1/reports/sales", **{"from": "2026-03-09", "to": "2026-03-10"})
    assert report["totals"] == [
        {"currency": "EUR", "orders": 1, "paid": 1, "units": 5, "captured": 500, "refunded": 0, "revenue": 500},
        {"currency": "GBP", "orders": 6, "paid": 3, "units": 4, "captured": 19500, "refunded": 11750, "revenue": 7750},
    ]
    assert [(row["key"], row["currency"], row["revenue"]) for row in report["rows"]] == [
        ("2026-03-09", "GBP", 2500),
        ("2026-03-10", "EUR", 500),
        ("2026-03-10", "GBP", 5250),
    ]


@pytest.mark.parametrize("by", ["hour", "day", "product", "category"])
async def test_rows_add_up_to_the_totals(shop: Shop, by: str) -> None:
    await publish_messages(shop, make_month())
    report = await get(shop, "/v1/reports/sales", by=by, **{"from": "2026-03-01"})
    for total in report["totals"]:
        rows = [row for row in report["rows"] if row["currency"] == total["currency"]]
        for name in ("units", "captured", "refunded", "revenue"):
            assert sum(row[name] for row in rows) == total[name], name


async def test_hours_are_in_utc_and_products_have_names(shop: Shop) -> None:
    await publish_messages(shop, make_month())
    hours = await get(shop, "/v1/reports/sales", by="hour", **DAY)
    assert [row["key"] for row in hours["rows"]] == [
        "2026-03-10T10:00:00Z",
        "2026-03-10T12:00:00Z",
        "2026-03-10T12:00:00Z",
    ]
    top = await get(shop, "/v1/reports/products", limit=2, **DAY)
    assert [(row["currency"], row["key"], row["name"], row["revenue"], row["units"]) for row in top["rows"]] == [
        ("EUR", "FORMULA", "=1+1", 500, 5),
        ("GBP", "LAMP", "Lamp", 4000, 1),
        ("GBP", "MUG", "Mug", 1250, 1),
    ]
    units = await get(shop, "/v1/reports/products", sort="units", limit=1, **DAY)
    assert [row["key"] for row in units["rows"]] == ["FORMULA"]


async def test_sums_are_ranked_within_their_currency(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minor units of two currencies are no measure of each other, and no currency is cut off for having small
    numbers.
    """
    sold = {"GBP": (("MUG", 1), ("FORMULA", 1)), "JPY": (("MUG", 1), ("LAMP", 2)), "KWD": (("MUG", 100), ("LAMP", 1))}
    for currency, lines in sold.items():
        await publish_messages(shop, make_order_messages(NOON, *lines, ends="paid", currency=currency))
    ranked = [("GBP", "MUG"), ("GBP", "FORMULA"), ("JPY", "LAMP"), ("JPY", "MUG"), ("KWD", "MUG"), ("KWD", "LAMP")]
    sales = await get(shop, "/v1/reports/sales", by="product", **DAY)
    assert [(row["currency"], row["key"]) for row in sales["rows"]] == ranked
    best = [("GBP", "MUG"), ("JPY", "LAMP"), ("KWD", "MUG")]
    for path, name in (("/v1/reports/products", "rows"), ("/v1/dashboard", "top_products")):
        limited: dict[str, Any] = {"limit": 1, **DAY} if name == "rows" else {}
        rows = [(row["currency"], row["key"]) for row in (await get(shop, path, **limited))[name]]
        assert rows == (best if limited else ranked), path
    monkeypatch.setattr(reports, "MAX_ROWS", 4)
    cut = await get(shop, "/v1/reports/sales", by="product", **DAY)
    assert cut["truncated"]
    assert [(row["currency"], row["key"]) for row in cut["rows"]] == [
        *ranked[:2],
        ranked[2],
        ranked[4],
    ]
    assert len(cut["totals"]) == 3


def written(row: dict[str, Any], name: str) -> object:
    """As a spreadsheet's reader expects it: sums with the decimals of their currency."""
    if name not in ("captured", "refunded", "revenue"):
        return row[name]
    return {
        "GBP": f"{row[name] / 100:.2f}",
        "EUR": f"{row[name] / 100:.2f}",
        "JPY": str(row[name]),
        "KWD": f"{row[name] / 1000:.3f}",
    }[row["currency"]]


@pytest.mark.parametrize(
    ("currency", "amount", "written"),
    [
        ("GBP", 1250, "12.50"),
        ("JPY", 3750, "3750"),
        ("KWD", 12345, "12.345"),
        ("CLF", 5, "0.0005"),
        ("ISK", 0, "0"),
        ("GBP", -150, "-1.50"),
    ],
)
def test_a_spreadsheet_gets_sums_in_the_unit_of_their_currency(currency: str, amount: int, written: str) -> None:
    row = {"key": "MUG", "currency": currency, "orders": 1250, "captured": amount, "refunded": 0, "revenue": amount}
    (read,) = csv.DictReader(io.StringIO(model.format_csv(tuple(row), [row])))
    assert (read["captured"], read["revenue"], read["orders"]) == (written, written, "1250")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/reports/sales?by=product",
        "/v1/reports/sales?by=hour",
        "/v1/reports/products?limit=5",
        "/v1/reports/funnel?from=2026-01-01",
    ],
)
async def test_csv_holds_what_json_holds(shop: Shop, path: str) -> None:
    await publish_messages(shop, make_month())
    rows = (await get(shop, path))["rows"]
    by_header = await shop.client.get(path, headers={**shop.issue_headers("staff"), "accept": "text/csv"})
    by_parameter = await shop.client.get(path + "&format=csv", headers=shop.issue_headers("staff"))
    for refused in ("text/csv;q=0", "application/json, text/csv; q=0.00", "text/csv-schema"):
        answer = await shop.client.get(path, headers={**shop.issue_headers("staff"), "accept": refused})
        assert answer.headers["content-type"] == "application/json", refused
    assert by_header.headers["content-type"].startswith("text/csv")
    assert by_header.text == by_parameter.text
    read = list(csv.DictReader(io.StringIO(by_header.text)))
    expected = [{name: "" if value is None else str(written(row, name)) for name, value in row.items()} for row in rows]
    assert [{name: value.removeprefix("'") for name, value in row.items()} for row in read] == expected
    assert "=1+1" not in by_header.text.replace("'=1+1", ""), "a spreadsheet would run it"


async def test_the_funnel_narrows_and_says_how_long_it_took(shop: Shop) -> None:
    published = make_month()
    await publish_messages(
        shop, [item for item in published if item.channel.name != "payment-completed"]
    )  # these are late
    early = await get(shop, "/v1/reports/funnel", **{"from": "2026-03-01"})
    assert [step["orders"] for step in early["rows"]] == [7, 5, 4, 2, 1]
    await publish_messages(shop, published)
    report = await get(shop, "/v1/reports/funnel", **{"from": "2026-03-01"})
    assert [(step["step"], step["orders"], step["of_previous"], step["of_created"]) for step in report["rows"]] == [
        ("created", 7, 1.0, 1.0),
        ("reserved", 5, 0.7143, 0.7143),
        ("paid", 4, 0.8, 0.5714),
        ("shipped", 2, 0.5, 0.2857),
        ("delivered", 1, 0.5, 0.1429),
    ]
    assert report["ended"] == {"rejected": 1, "payment_failed": 1, "cancelled": 1}
    assert 0 <= report["seconds_to_process"]["p50"] <= report["seconds_to_process"]["p95"]


async def test_an_empty_period_is_a_report_too(shop: Shop) -> None:
    assert (await get(shop, "/v1/reports/sales", **DAY))["rows"] == []
    funnel = await get(shop, "/v1/reports/funnel", **DAY)
    assert funnel["seconds_to_process"] is None
    assert funnel["rows"][1]["of_previous"] is None


async def test_the_dashboard_shows_today(shop: Shop) -> None:
    await publish_messages(shop, make_month())
    board = await get(shop, "/v1/dashboard")
    assert board["day"] == "2026-03-10"
    assert board["states"] == {"created": 1, "paid": 1, "payment_failed": 1, "refunded": 1, "rejected": 1, "shipped": 1}
    assert board["open_orders"] == 3
    assert {row["currency"]: row["revenue"] for row in board["revenue"]} == {"GBP": 5250, "EUR": 500}
    assert [(row["currency"], row["key"]) for row in board["top_products"]] == [
        ("EUR", "FORMULA"),
        ("GBP", "LAMP"),
        ("GBP", "MUG"),
    ]


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
    await use_cases.write_daily_reports(context)
    await use_cases.write_daily_reports(context)
    report = await get(shop, "/v1/reports/daily/2026-03-09")
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
    report = await get(shop, "/v1/reports/daily/2026-03-09")
    assert (report["revision"], report["states"], report["sales"][0]["revenue"]) == (2, {"paid": 1}, 2500)
    assert (await get(shop, "/v1/reports/daily/2026-03-10"))["sales"] == [], "a day without orders has a report, too"


PATHS = [
    "/v1/reports/sales",
    "/v1/reports/funnel",
    "/v1/reports/products",
    "/v1/reports/daily/2026-03-09",
    "/v1/dashboard",
]


@pytest.mark.parametrize("path", PATHS)
async def test_reports_are_for_staff(shop: Shop, path: str) -> None:
    assert (await shop.client.get(path)).status_code == 401
    assert (await shop.client.get(path, headers=shop.issue_headers("customer"))).status_code == 403
    assert (await shop.client.get(path, headers=shop.issue_headers("staff"))).status_code in (200, 404)


@pytest.mark.parametrize(
    "query",
    [
        "from=2026-03-02&to=2026-03-01",
        "from=2025-01-01&to=2026-01-02",
        "from=yesterday",
        "to=0",
        "to=9999-12-31",
        "from=0001-01-01",
        "from=9999-12-31",
        "by=colour",
        "format=xml",
        "from=%00",
    ],
)
async def test_what_can_not_be_a_period_is_refused(shop: Shop, query: str) -> None:
    assert (await shop.client.get(f"/v1/reports/sales?{query}", headers=shop.issue_headers("staff"))).status_code == 422


@given(st.none() | st.dates(), st.none() | st.dates(), st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_a_period_is_never_turned_around_nor_too_long(first: date | None, last: date | None, today: date) -> None:
    try:
        period = model.resolve_period(first, last, today)
    except InvalidRequest:
        return
    assert datetime(1970, 1, 1, tzinfo=UTC) <= period.since < period.until
    assert (period.until - period.since).days <= model.MAX_DAYS
    assert first in (None, period.first)
    assert last in (None, period.last)
