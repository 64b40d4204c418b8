"""The timelines of a run in which every message comes five times: every message, mail, line of the ledgers and step is
in its order's timeline exactly once, after its cause.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from caravan.runtime import BUS, Backends
from tests.faults.invariants import rows
from tests.faults.repeating import TIMES, Repeating, wait_for_rest
from tests.support.scenario import ShopScenario, run_whole_shop

SOURCES = {
    "events",
    "saga",
    "topics",
    "queues",
    "reservations",
    "stock",
    "payments",
    "provider",
    "jobs",
    "documents",
    "shipments",
    "carrier",
    "mails",
    "audit",
}


REQUESTS = ("OrderCreated", "CancellationRequested")
"""What somebody asked for; all else has a cause."""


@pytest.fixture
async def finished(backends: Backends, tmp_path: Path) -> AsyncIterator[ShopScenario]:
    async with run_whole_shop(backends, tmp_path / "shop", wrap=Repeating) as scenario:
        await scenario.run_scenario()
        await wait_for_rest(scenario, backends)
        yield scenario


async def read_timelines(scenario: ShopScenario) -> dict[str, dict[str, Any]]:
    admin = await scenario.program.authorize_operator()
    timelines = {}
    for order_id in scenario.orders:
        response = await scenario.program.client.get(f"/v1/orders/{order_id}/timeline", headers=admin)
        assert response.status_code == 200, response.text
        timelines[order_id] = response.json()
    return timelines


async def test_everything_of_an_order_is_in_its_timeline_once(finished: ShopScenario, backends: Backends) -> None:
    timelines = await read_timelines(finished)
    assert {item["source"] for timeline in timelines.values() for item in timeline["items"]} == SOURCES
    for order_id, timeline in timelines.items():
        assert timeline["partial"] == []
        ids = [item["id"] for item in timeline["items"]]
        assert len(ids) == len(set(ids))
        expected = await list_expected_ids(backends, order_id)
        assert expected - set(ids) == set()
        calls = [item["details"]["key"] for item in timeline["items"] if "key" in item["details"]]
        ledger = await rows(backends, "payments", "SELECT key FROM provider_ledger WHERE reference = $1", order_id)
        assert {row[0] for row in ledger} <= set(calls)
        positions = {entry_id: position for position, entry_id in enumerate(ids)}
        for item in timeline["items"]:
            assert item["cause"] is not None or item["kind"] in REQUESTS, f"{order_id}: {item} has no cause"
            assert item["cause"] is None or positions[item["cause"]] < positions[item["id"]], item
            for delivery in item["deliveries"]:
                assert delivery["deliveries"] >= TIMES, item
                assert delivery["effects"] == 1


async def list_expected_ids(backends: Backends, order_id: str) -> set[str]:
    """What the databases hold of an order, under the ids that its timeline gives it."""
    order = UUID(order_id)
    messages = await rows(
        backends,
        BUS,
        "SELECT DISTINCT message_id FROM topic_log WHERE key = $1 OR key = $2",
        order_id,
        f"order:{order_id}",
    )
    expected = {str(row[0]) for row in messages}
    for database, statement in (
        ("orders", "SELECT 'event:' || version FROM event WHERE stream = $1"),
        ("inventory", "SELECT 'stock:' || sku || ':' || version FROM movement WHERE order_id = $1"),
        ("payments", "SELECT 'payment:attempt:' || attempt FROM payment_attempt WHERE order_id = $1"),
        ("notifications", "SELECT 'mail:' || id FROM notification WHERE order_id = $1"),
        (
            "processing",
            "SELECT 'saga:' || n FROM saga, json_array_elements(history) WITH ORDINALITY AS s(step, n)"
            " WHERE order_id = $1",
        ),
        *(
            (database, "SELECT message_id::text FROM inbox WHERE key = $1")
            for database in (
                "orders",
                "processing",
                "inventory",
                "payments",
                "shipping",
                "notifications",
                "analytics",
                "recommendations",
            )
        ),
    ):
        expected |= {row[0] for row in await rows(backends, database, statement, order)}
    return expected
