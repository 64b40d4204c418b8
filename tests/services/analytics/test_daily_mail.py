"""The mail with a day's report: asked for once, when the day has ended, by whoever the settings name."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from pydantic import ValidationError

from caravan.runtime import Backends
from services.analytics import use_cases
from services.analytics.model import MAX_HISTORIES, build_history
from services.analytics.settings import Settings
from tests.services.analytics.conftest import NOON, Watch, empty, make_order_messages, publish_messages
from tests.support.shop import Shop, run_services

TO = ["ada@example.com", "grace@example.com"]
YESTERDAY = NOON - timedelta(days=1)
SETTING = "ANALYTICS_DAILY_REPORT_TO"


@pytest.fixture(scope="module")
async def mailing(backends: Backends, watch: Watch) -> AsyncIterator[Shop]:
    with patch.dict(os.environ, {SETTING: orjson.dumps(TO).decode()}):
        async with run_services(backends, "analytics", clock=watch) as shop:
            yield shop


@pytest.fixture
async def shop(mailing: Shop, watch: Watch) -> Shop:
    await empty(mailing)
    return mailing


async def read_commands(shop: Shop) -> list[dict[str, Any]]:
    """What waits for notifications, which don't run here."""
    database = shop.get_database("analytics")
    rows = await database.fetch("SELECT body FROM outbox WHERE channel = 'notifications.standard'")
    rows += await shop.embedded_bus.database.fetch(
        "SELECT body FROM delivery WHERE subscription = 'notifications.standard'"
    )
    commands = {
        body["id"]: body["data"] for row in rows if (body := orjson.loads(row[0]))["data"]["kind"] == "daily_report"
    }
    return list(commands.values())


async def test_each_recipient_gets_the_day_once_whoever_writes_it(shop: Shop, watch: Watch) -> None:
    context = shop.get_context("analytics")
    before = len(await read_commands(shop))
    await publish_messages(shop, make_order_messages(YESTERDAY - timedelta(days=2), ("MUG", 1), ends="paid"))
    await publish_messages(shop, make_order_messages(YESTERDAY, ("MUG", 2), ends="paid"))
    await asyncio.gather(*(use_cases.write_daily_reports(context) for _ in range(4)))
    commands = (await read_commands(shop))[before:]
    assert sorted(command["email"] for command in commands) == TO
    assert len({command["about"] for command in commands}) == 2
    values = commands[0]["values"]
    assert (values["day"], values["orders"], values["sales"][0]["revenue"]) == ("2026-03-09", 1, 2500)
    assert [(entry["day"], entry["revenue"]) for entry in values["history"]["GBP"]] == [
        ("2026-03-07", 1250),
        ("2026-03-08", 0),
        ("2026-03-09", 2500),
    ]
    await publish_messages(shop, make_order_messages(YESTERDAY, ("MUG", 5), ends="paid"))
    assert await use_cases.write_daily_reports(context) == [YESTERDAY.date()], "late events change the report"
    assert len(await read_commands(shop)) == before + 2, "and send no other mail"


def test_a_history_holds_the_currencies_with_the_most_orders() -> None:
    rows = [{"currency": f"C{number}", "paid": number, "revenue": number} for number in range(1, 9)]
    history = build_history({date(2026, 3, 9): rows, date(2026, 3, 8): []})
    assert list(history) == ["C8", "C7", "C6", "C5", "C4"] and len(history) == MAX_HISTORIES
    assert history["C8"] == [{"day": "2026-03-08", "revenue": 0}, {"day": "2026-03-09", "revenue": 8}]


@pytest.mark.parametrize("value", ['["nobody"]', '["a@example.com\\r\\nBcc: b@example.com"]', "ada@example.com"])
def test_what_is_no_list_of_addresses_is_refused_at_the_start(value: str) -> None:
    with patch.dict(os.environ, {SETTING: value}), pytest.raises((ValidationError, ValueError)):
        Settings()
