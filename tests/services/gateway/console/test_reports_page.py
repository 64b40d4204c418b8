"""The reports of the console: a plot for each currency, and the API's own CSV."""

from datetime import date
from typing import Any

from services.gateway.console.views import reports


def make_row(key: str, revenue: int, currency: str = "GBP", name: str | None = None) -> dict[str, Any]:
    return {"key": key, "currency": currency, "revenue": revenue, "name": name}


def test_currencies_are_never_added_and_days_without_orders_have_their_place() -> None:
    rows = [make_row("2026-11-02", 500), make_row("2026-11-02", 700, "JPY"), make_row("2026-11-04", 100)]
    charts = reports.build_charts({"by": "day", "from": "2026-11-01", "to": "2026-11-05", "rows": rows})
    assert [chart["currency"] for chart in charts] == ["GBP", "JPY"]
    titles = [bar.title for bar in charts[0]["chart"].bars]
    assert titles == ["01 Nov: 0.00", "02 Nov: 5.00", "03 Nov: 0.00", "04 Nov: 1.00", "05 Nov: 0.00"]
    assert "02 Nov: 700" in [bar.title for bar in charts[1]["chart"].bars], "no decimals in JPY"


def test_hours_go_from_the_first_to_the_last_with_orders() -> None:
    rows = [make_row("2026-11-02T22:00:00Z", 1), make_row("2026-11-03T01:00:00Z", 1)]
    keys = reports.list_keys("hour", date(2026, 11, 1), date(2026, 11, 5), rows)
    assert keys == [f"2026-11-{hour}:00:00Z" for hour in ("02T22", "02T23", "03T00", "03T01")]
    assert reports.list_keys("hour", date(2026, 11, 1), date(2026, 11, 5), []) == []


def test_products_are_ranked_as_shares_of_the_best() -> None:
    (ranking,) = reports.build_rankings([make_row("MUG", 1000, name="Mug"), make_row("TENT", 500), make_row("X", -5)])
    assert [(bar["label"], bar["width"]) for bar in ranking["bars"]] == [("Mug", 100), ("TENT", 50), ("X", 0.2)]


def test_a_grouping_that_there_is_not_is_by_day() -> None:
    assert reports.read_query({"by": "nonsense", "from": " 2026-11-01 "}) == {
        "from": "2026-11-01",
        "to": "",
        "by": "day",
    }
