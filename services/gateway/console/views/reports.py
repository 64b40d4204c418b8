"""Sales by hour, day, product, category or country as plots, one for each currency, and how far orders have come."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from caravan.money import format_amount
from services.gateway.console.api_client import Answer, ApiRefused
from services.gateway.console.bar_chart import draw_bars
from services.gateway.console.page import PageRequest, View

PATH = "/console/reports"
GROUPINGS = ("day", "hour", "product", "category", "country")
TIMES = ("day", "hour")
SHOWN_ROWS = 100


async def load_reports(request: PageRequest) -> View:
    query = read_query(request.query)
    view: View = {"query": query, "groupings": GROUPINGS, "charts": [], "rows": [], "totals": [], "funnel": None}
    view["days"] = {"from": query["from"], "to": query["to"]}
    try:
        sales, funnel = await asyncio.gather(
            request.api.get("/v1/reports/sales", {**query, "format": "json"}),
            request.api.get("/v1/reports/funnel", {"from": query["from"], "to": query["to"], "format": "json"}),
        )
    except ApiRefused as refused:
        if refused.status not in (400, 422):
            raise
        return {**view, "problem": str(refused), "csv_url": "", "is_cut": False, "period": ""}
    return {
        **view,
        "problem": "",
        "period": f"{sales['from']} to {sales['to']}",
        "days": {"from": sales["from"], "to": sales["to"]},
        "charts": build_charts(sales) if sales["by"] in TIMES else build_rankings(sales["rows"]),
        "rows": [_add_amounts(row) for row in sales["rows"][:SHOWN_ROWS]],
        "is_cut": len(sales["rows"]) > SHOWN_ROWS,
        "totals": [_add_amounts(row) for row in sales["totals"]],
        "funnel": funnel if any(step["orders"] for step in funnel["rows"]) else None,
        "csv_url": f"{PATH}/sales.csv?{urlencode({name: value for name, value in query.items() if value})}",
    }


def read_query(given: dict[str, str]) -> dict[str, Any]:
    by = given.get("by", "day")
    return {
        "from": given.get("from", "").strip(),
        "to": given.get("to", "").strip(),
        "by": by if by in GROUPINGS else "day",
    }


async def fetch_sales_csv(request: PageRequest) -> Answer:
    """The file that the API makes of the same report: whole, and with harmless cells."""
    return await request.api.send("GET", "/v1/reports/sales", {**read_query(request.query), "format": "csv"})


def build_charts(sales: dict[str, Any]) -> list[dict[str, Any]]:
    """One for each currency; a day or an hour without orders has its empty place."""
    keys = list_keys(sales["by"], date.fromisoformat(sales["from"]), date.fromisoformat(sales["to"]), sales["rows"])
    charts = []
    for currency in sorted({row["currency"] for row in sales["rows"]}):
        revenue = {row["key"]: row["revenue"] for row in sales["rows"] if row["currency"] == currency}
        values = [(_shorten(key), revenue.get(key, 0)) for key in keys]
        chart = draw_bars(values, lambda value, currency=currency: format_amount(value, currency))  # type: ignore[misc]
        charts.append({"currency": currency, "chart": chart, "bars": []})
    return charts


def list_keys(by: str, first: date, last: date, rows: list[dict[str, Any]]) -> list[str]:
    """Every day of the period; of hours those from the first to the last with orders."""
    if by == "day":
        return [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
    found = sorted({row["key"] for row in rows})
    if not found:
        return []
    begin, end = (datetime.fromisoformat(key).astimezone(UTC) for key in (found[0], found[-1]))
    hours = int((end - begin).total_seconds() // 3600) + 1
    return [f"{begin + timedelta(hours=number):%Y-%m-%dT%H:%M:%SZ}" for number in range(hours)]


def _shorten(key: str) -> str:
    """A day as `30 Nov`, an hour as `30 Nov 14:00`."""
    return f"{datetime.fromisoformat(key):%d %b %H:%M}" if "T" in key else f"{date.fromisoformat(key):%d %b}"


def build_rankings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of products, categories and countries: the best 15 of each currency, as shares of the best."""
    rankings = []
    for currency in sorted({row["currency"] for row in rows}):
        best = [row for row in rows if row["currency"] == currency][:15]
        most = max((row["revenue"] for row in best), default=0) or 1
        bars = [
            {
                "label": row["name"] or row["key"],
                "amount": format_amount(row["revenue"], currency),
                "width": max(0.2, round(100 * max(row["revenue"], 0) / most, 1)),
            }
            for row in best
        ]
        rankings.append({"currency": currency, "chart": None, "bars": bars})
    return rankings


def _add_amounts(row: dict[str, Any]) -> dict[str, Any]:
    amounts = {name: {"amount": row[name], "currency": row["currency"]} for name in ("captured", "refunded", "revenue")}
    return {**row, "amounts": amounts}
