"""Requests for reports, and a month of orders to report on."""

from datetime import timedelta
from typing import Any

from tests.services.analytics.conftest import NOON, make_order_messages
from tests.support.shop import Shop

DAY = {"from": "2026-03-10", "to": "2026-03-10"}


YESTERDAY = NOON - timedelta(days=1)


async def get_report(shop: Shop, path: str, role: str = "staff", **parameters: Any) -> Any:
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
        *make_order_messages(NOON, ("FORMULA", 5), ends="paid", currency="EUR", country="IE"),
    ]


async def read_tables(shop: Shop) -> list[list[Any]]:
    """All facts, but for the times that the envelopes of this telling bring."""
    database = shop.get_database("analytics")
    facts = await database.fetch(
        "SELECT order_id, user_id, placed_at, total, currency, units, outcome, processed_at, captured, paid_at, "
        "refunded, refunded_at, shipped_at,"
        " delivered_at, cancelled_at FROM order_fact ORDER BY order_id"
    )
    lines = await database.fetch("SELECT * FROM order_line_fact ORDER BY order_id, line")
    return [list(facts), list(lines), list(await database.fetch("SELECT * FROM sale ORDER BY order_id"))]


def drop_times(rows: list[list[Any]]) -> list[list[Any]]:
    def plain(row: Any) -> dict[str, Any]:
        return {
            name: value is not None if name.endswith("_at") and name != "placed_at" else value
            for name, value in row.items()
        }

    return [[plain(row) for row in table] for table in rows]
