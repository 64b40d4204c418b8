"""The timelines of a run in which every message comes five times: every message, mail, line of the ledgers and step is
in its order's timeline exactly once, after its cause.
"""

import base64
from collections import Counter
from collections.abc import Collection
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
READERS = (
    "orders",
    "processing",
    "inventory",
    "payments",
    "shipping",
    "notifications",
    "analytics",
    "recommendations",
)
"""The databases whose inboxes remember an order's messages."""
KEPT_JOBS = 200
"""So many finished jobs of a queue are kept; of older ones the timelines say that they are gone."""
REQUESTS = ("OrderCreated", "CancellationRequested")
"""What somebody asked for; all else has a cause."""


async def read_timelines(scenario: ShopScenario) -> dict[str, dict[str, Any]]:
    admin = await scenario.program.authorize_operator()
    timelines = {}
    for order_id in scenario.orders:
        response = await scenario.program.client.get(f"/v1/orders/{order_id}/timeline", headers=admin)
        assert response.status_code == 200, response.text
        timelines[order_id] = response.json()
    return timelines


@pytest.mark.parametrize("count", [16, pytest.param(500, marks=pytest.mark.slow)])
async def test_everything_is_in_the_timelines_of_many_orders_once(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The scenario's orders, of which nobody gives up a message; then `count` that end in every way, of which a
    consumer gives up some and fails others at first.
    """
    failing = FailingProjection()
    async with run_whole_shop(backends, tmp_path / "shop", wrap=Repeating) as scenario:
        await scenario.run_scenario()
        await wait_for_rest(scenario, backends)
        first_timelines = await check_timelines(scenario, backends)
        found = {item["source"] for timeline in first_timelines.values() for item in timeline["items"]}
        assert found == SOURCES - {"dead_letters"}
        monkeypatch.setattr(projections, "project_created", failing.project_created)
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
        timelines = await check_timelines(scenario, backends, may_lack={"jobs"} if count > KEPT_JOBS else ())
        assert len(timelines) == len(first_timelines) + count
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


async def check_timelines(
    scenario: ShopScenario, backends: Backends, may_lack: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Each has everything once, after its cause, but for the sources that it may lack and says so."""
    timelines = await read_timelines(scenario)
    expected = await list_expected_ids(backends, list(timelines))
    ledger = await rows(
        backends, "payments", "SELECT reference, key FROM provider_ledger WHERE reference = ANY($1)", list(timelines)
    )
    for order_id, timeline in timelines.items():
        assert {part["source"] for part in timeline["partial"]} <= set(may_lack)
        ids = [item["id"] for item in timeline["items"]]
        assert len(ids) == len(set(ids))
        assert expected[order_id] - set(ids) == set()
        calls = [item["details"]["key"] for item in timeline["items"] if "key" in item["details"]]
        assert {row["key"] for row in ledger if row["reference"] == order_id} <= set(calls)
        positions = {entry_id: position for position, entry_id in enumerate(ids)}
        for item in timeline["items"]:
            assert item["cause"] is not None or item["kind"] in REQUESTS, f"{order_id}: {item} has no cause"
            assert item["cause"] is None or positions[item["cause"]] < positions[item["id"]], item
            for delivery in item["deliveries"]:
                assert delivery["deliveries"] >= TIMES, item
                assert delivery["effects"] == 1
    return timelines


async def list_expected_ids(backends: Backends, order_ids: list[str]) -> dict[str, set[str]]:
    """What the databases hold of each order, under the ids that its timeline gives it."""
    expected: dict[str, set[str]] = {order_id: set() for order_id in order_ids}
    keys = [*order_ids, *(f"order:{order_id}" for order_id in order_ids)]
    for row in await rows(backends, BUS, "SELECT DISTINCT key, message_id FROM topic_log WHERE key = ANY($1)", keys):
        expected[row["key"].removeprefix("order:")].add(str(row["message_id"]))
    failures = await rows(
        backends, BUS, "SELECT key, id::text, subscription FROM dead_letter WHERE key = ANY($1)", order_ids
    )
    for row in failures:
        expected[row["key"]].add(encode_failure_id(row["subscription"], row["id"]))
    for database, statement in (
        ("orders", "SELECT stream, 'event:' || version FROM event WHERE stream = ANY($1)"),
        ("inventory", "SELECT order_id, 'stock:' || sku || ':' || version FROM movement WHERE order_id = ANY($1)"),
        ("payments", "SELECT order_id, 'payment:attempt:' || attempt FROM payment_attempt WHERE order_id = ANY($1)"),
        ("notifications", "SELECT order_id, 'mail:' || id FROM notification WHERE order_id = ANY($1)"),
        (
            "processing",
            "SELECT order_id, 'saga:' || n FROM saga, json_array_elements(history) WITH ORDINALITY AS s(step, n)"
            " WHERE order_id = ANY($1)",
        ),
        *((database, "SELECT key, message_id::text FROM inbox WHERE key = ANY($1)") for database in READERS),
    ):
        for order_id, item_id in await rows(backends, database, statement, [UUID(order_id) for order_id in order_ids]):
            expected[str(order_id)].add(item_id)
    return expected


def encode_failure_id(subscription: str, dead_letter_id: str) -> str:
    """The id of a message that a consumer gave up."""
    parts = [subscription.partition(".")[0], "subscription", subscription, dead_letter_id]
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")
