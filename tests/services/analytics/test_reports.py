"""Reports through HTTP."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.errors import InvalidRequest
from services.analytics import model
from services.analytics.store import reports
from tests.services.analytics.conftest import NOON, empty, make_order_messages, publish_messages
from tests.services.analytics.reports import DAY, drop_times, get_report, make_month, read_tables
from tests.support.shop import Shop, wait_until


@pytest.mark.parametrize("seed", [1, 2])
async def test_messages_that_come_five_times_and_in_any_order_leave_the_same_facts(shop: Shop, seed: int) -> None:
    published = make_month()
    await publish_messages(shop, published)
    once, sales = (
        await read_tables(shop),
        await get_report(shop, "/v1/reports/sales", by="product", **{"from": "2026-03-01"}),
    )
    await publish_messages(shop, published, seed=seed, times=5)
    assert await read_tables(shop) == once
    await empty(shop)
    await publish_messages(shop, published, seed=seed, times=5)
    assert drop_times(await read_tables(shop)) == drop_times(once)
    assert await get_report(shop, "/v1/reports/sales", by="product", **{"from": "2026-03-01"}) == sales


async def test_answers_that_a_service_gives_twice_count_once(shop: Shop) -> None:
    published = make_order_messages(NOON, ("MUG", 2), ends="refunded")
    await publish_messages(shop, published)
    once = await read_tables(shop)
    for item in published:
        item.id = UUID(int=item.id.int ^ 1)  # the same fact in a message of its own
    await publish_messages(shop, published, seed=3)
    assert await read_tables(shop) == once


async def test_revenue_is_what_was_captured_less_what_was_given_back(shop: Shop) -> None:
    await publish_messages(shop, make_month())
    report = await get_report(shop, "/v1/reports/sales", **{"from": "2026-03-09", "to": "2026-03-10"})
    assert report["totals"] == [
        {
            "currency": "EUR",
            "orders": 1,
            "paid": 1,
            "units": 5,
            "captured": 500,
            "refunded": 0,
            "revenue": 500,
            "average_order": 500,
        },
        {
            "currency": "GBP",
            "orders": 6,
            "paid": 3,
            "units": 4,
            "captured": 19500,
            "refunded": 11750,
            "revenue": 7750,
            "average_order": 6500,
        },
    ]
    assert [(row["key"], row["currency"], row["revenue"]) for row in report["rows"]] == [
        ("2026-03-09", "GBP", 2500),
        ("2026-03-10", "EUR", 500),
        ("2026-03-10", "GBP", 5250),
    ]


@pytest.mark.parametrize("by", ["hour", "day", "product", "category", "country"])
async def test_rows_add_up_to_the_totals(shop: Shop, by: str) -> None:
    await publish_messages(shop, make_month())
    report = await get_report(shop, "/v1/reports/sales", by=by, **{"from": "2026-03-01"})
    for total in report["totals"]:
        rows = [row for row in report["rows"] if row["currency"] == total["currency"]]
        for name in ("units", "captured", "refunded", "revenue"):
            assert sum(row[name] for row in rows) == total[name], name


async def test_countries_are_those_that_parcels_go_to(shop: Shop) -> None:
    await publish_messages(shop, make_month())
    report = await get_report(shop, "/v1/reports/sales", by="country", **{"from": "2026-03-09", "to": "2026-03-10"})
    assert [(row["key"], row["currency"], row["orders"], row["revenue"]) for row in report["rows"]] == [
        ("IE", "EUR", 1, 500),
        ("GB", "GBP", 6, 7750),
    ]


async def test_the_two_groups_agree_and_neither_waits_for_the_other(shop: Shop) -> None:
    """`analytics` and `reporting` read the same topics with positions of their own: what one can't handle holds up
    only that one.
    """
    await publish_messages(shop, make_month())
    database = shop.get_database("analytics")
    shared = "order_id, user_id, placed_at, currency, total, units, captured, paid_at, refunded, refunded_at"
    sales = await database.fetch(f"SELECT {shared} FROM sale ORDER BY order_id")
    assert sales == await database.fetch(f"SELECT {shared} FROM order_fact ORDER BY order_id")
    handled = await database.fetch("SELECT split_part(consumer, '.', 1), count(*) FROM inbox GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in handled] == [("analytics", 22), ("reporting", 13)]
    await database.execute("ALTER TABLE order_fact RENAME TO order_fact_gone")
    try:
        late = make_order_messages(NOON, ("MUG", 1), ends="created")
        async with database.unit_of_work() as uow:
            uow.emit(late[0].channel, late[0].message, key=str(late[0].key), message_id=late[0].id)

        async def is_sold() -> bool:
            return bool(await database.fetchval("SELECT count(*) FROM sale WHERE order_id = $1", late[0].key))

        await wait_until(is_sold)
        assert not await database.fetch(
            "SELECT FROM inbox WHERE consumer = 'analytics.order-created' AND key = $1", late[0].key
        )
    finally:
        await database.execute("ALTER TABLE order_fact_gone RENAME TO order_fact")

    async def is_known() -> bool:
        return bool(await database.fetchval("SELECT count(*) FROM order_fact WHERE order_id = $1", late[0].key))

    await wait_until(is_known, seconds=45, every=0.2)


async def test_hours_are_in_utc_and_products_have_names(shop: Shop) -> None:
    await publish_messages(shop, make_month())
    hours = await get_report(shop, "/v1/reports/sales", by="hour", **DAY)
    assert [row["key"] for row in hours["rows"]] == [
        "2026-03-10T10:00:00Z",
        "2026-03-10T12:00:00Z",
        "2026-03-10T12:00:00Z",
    ]
    top = await get_report(shop, "/v1/reports/products", limit=2, **DAY)
    assert [(row["currency"], row["key"], row["name"], row["revenue"], row["units"]) for row in top["rows"]] == [
        ("EUR", "FORMULA", "=1+1", 500, 5),
        ("GBP", "LAMP", "Lamp", 4000, 1),
        ("GBP", "MUG", "Mug", 1250, 1),
    ]
    units = await get_report(shop, "/v1/reports/products", sort="units", limit=1, **DAY)
    assert [row["key"] for row in units["rows"]] == ["FORMULA"]


async def test_sums_are_ranked_within_their_currency(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minor units of two currencies are no measure of each other, and no currency is cut off for having small
    numbers.
    """
    sold = {"GBP": (("MUG", 1), ("FORMULA", 1)), "JPY": (("MUG", 1), ("LAMP", 2)), "KWD": (("MUG", 100), ("LAMP", 1))}
    for currency, lines in sold.items():
        await publish_messages(shop, make_order_messages(NOON, *lines, ends="paid", currency=currency))
    ranked = [("GBP", "MUG"), ("GBP", "FORMULA"), ("JPY", "LAMP"), ("JPY", "MUG"), ("KWD", "MUG"), ("KWD", "LAMP")]
    sales = await get_report(shop, "/v1/reports/sales", by="product", **DAY)
    assert [(row["currency"], row["key"]) for row in sales["rows"]] == ranked
    best = [("GBP", "MUG"), ("JPY", "LAMP"), ("KWD", "MUG")]
    for path, name in (("/v1/reports/products", "rows"), ("/v1/dashboard", "top_products")):
        limited: dict[str, Any] = {"limit": 1, **DAY} if name == "rows" else {}
        rows = [(row["currency"], row["key"]) for row in (await get_report(shop, path, **limited))[name]]
        assert rows == (best if limited else ranked), path
    monkeypatch.setattr(reports, "MAX_ROWS", 4)
    cut = await get_report(shop, "/v1/reports/sales", by="product", **{**DAY, "to": "2026-03-11"})
    assert cut["truncated"]
    assert [(row["currency"], row["key"]) for row in cut["rows"]] == [
        *ranked[:2],
        ranked[2],
        ranked[4],
    ]
    assert len(cut["totals"]) == 3


async def test_the_funnel_narrows_and_says_how_long_it_took(shop: Shop) -> None:
    published = make_month()
    await publish_messages(
        shop, [item for item in published if item.channel.name != "payment-completed"]
    )  # these are late
    early = await get_report(shop, "/v1/reports/funnel", **{"from": "2026-03-01"})
    assert [step["orders"] for step in early["rows"]] == [7, 5, 4, 2, 1]
    await publish_messages(shop, published)
    report = await get_report(shop, "/v1/reports/funnel", **{"from": "2026-03-01"})
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
    assert (await get_report(shop, "/v1/reports/sales", **DAY))["rows"] == []
    funnel = await get_report(shop, "/v1/reports/funnel", **DAY)
    assert funnel["seconds_to_process"] is None
    assert funnel["rows"][1]["of_previous"] is None


async def test_the_dashboard_shows_today(shop: Shop) -> None:
    await publish_messages(shop, make_month())
    board = await get_report(shop, "/v1/dashboard")
    assert board["day"] == "2026-03-10"
    assert board["states"] == {"created": 1, "paid": 1, "payment_failed": 1, "refunded": 1, "rejected": 1, "shipped": 1}
    assert board["open_orders"] == 3
    assert {row["currency"]: row["revenue"] for row in board["revenue"]} == {"GBP": 5250, "EUR": 500}
    assert [(row["currency"], row["key"]) for row in board["top_products"]] == [
        ("EUR", "FORMULA"),
        ("GBP", "LAMP"),
        ("GBP", "MUG"),
    ]


PATHS = [
    "/v1/reports/sales",
    "/v1/reports/funnel",
    "/v1/reports/products",
    "/v1/reports/refunds",
    "/v1/reports/customers",
    "/v1/reports/cohorts",
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
