"""The timelines of a run in which every message comes five times: every message, mail, line of the ledgers and step is
in its order's timeline exactly once, after its cause.
"""

import base64
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from caravan.concurrency import map_concurrently
from caravan.database import UnitOfWork
from caravan.errors import MessageRejected
from caravan.messages import Delivery
from caravan.runtime import BUS, Backends
from services.orders.messages import OrderCreated
from services.recommendations import projections
from tests.faults.invariants import rows
from tests.faults.repeating import TIMES, Repeating, wait_for_rest
from tests.support.scenario import ShopScenario, run_whole_shop

SOURCES = {
    "events",
    "saga",
    "topics",
    "queues",
    "dead_letters",
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
    timelines = await check_timelines(finished, backends)
    found = {item["source"] for timeline in timelines.values() for item in timeline["items"]}
    assert found == SOURCES - {"dead_letters"}


@pytest.mark.parametrize("count", [50, pytest.param(500, marks=pytest.mark.slow)])
async def test_everything_is_in_the_timelines_of_many_orders_once(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Orders that end in every way, of which a consumer gives up some and fails others at first."""
    failing = FailingProjection()
    monkeypatch.setattr(projections, "project_created", failing.project_created)
    async with run_whole_shop(backends, tmp_path / "shop", wrap=Repeating) as scenario:
        program = scenario.program
        sku = await program.create_product(stock=10 * count)
        customers = [await program.register_customer() for _ in range(3)]

        async def place_order(number: int) -> None:
            token = ("tok_ok", "tok_flaky", "tok_declined", "tok_timeout_charged")[number % 4]
            who = customers[number % len(customers)]
            answer = await program.place_order(who, sku, token=token)
            assert answer.status_code == 202, answer.text
            scenario.orders[answer.json()["id"]] = ""
            if number % 5 == 0:
                await program.client.post(f"/v1/orders/{answer.json()['id']}/cancel", headers=who)

        await map_concurrently(place_order, range(count), limit=8)
        await wait_for_rest(scenario, backends)
        timelines = await check_timelines(scenario, backends)
        assert len(timelines) == count
        items = [item for timeline in timelines.values() for item in timeline["items"]]
        assert {item["source"] for item in items} == SOURCES
        dead = [item for item in items if item["source"] == "dead_letters"]
        assert len(dead) == TIMES * len(failing.list_rejected())
        assert all(item["details"]["reason"].endswith("no shelf for it") for item in dead)


class FailingProjection:
    """What recommendations makes of new orders: every eighth is rejected each time it comes, and every other eighth
    fails three times.
    """

    def __init__(self) -> None:
        self._project_created = projections.project_created
        self._numbers: dict[UUID, int] = {}
        self._failures: Counter[UUID] = Counter()

    async def project_created(self, uow: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
        for order_id in [delivery.message.order_id for delivery in deliveries]:
            number = self._numbers.setdefault(order_id, len(self._numbers))
            if number % 8 == 0:
                raise MessageRejected("no shelf for it")
            if number % 8 == 4 and self._failures[order_id] < 3:
                self._failures[order_id] += 1
                raise RuntimeError("the shelf is away")
        await self._project_created(uow, deliveries)

    def list_rejected(self) -> list[UUID]:
        return [order_id for order_id, number in self._numbers.items() if number % 8 == 0]


async def check_timelines(scenario: ShopScenario, backends: Backends) -> dict[str, dict[str, Any]]:
    """Each has everything once, after its cause."""
    timelines = await read_timelines(scenario)
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
    return timelines


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
    expected = {str(row[0]) for row in messages} | await list_failure_ids(backends, order_id)
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


async def list_failure_ids(backends: Backends, order_id: str) -> set[str]:
    """Of the messages that a consumer gave up."""
    dead_letters = await rows(backends, BUS, "SELECT id::text, subscription FROM dead_letter WHERE key = $1", order_id)
    parts = [[row[1].partition(".")[0], "subscription", row[1], row[0]] for row in dead_letters]
    return {base64.urlsafe_b64encode(orjson.dumps(each)).decode().rstrip("=") for each in parts}
