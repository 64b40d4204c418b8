"""The timeline of an order over HTTP: who sees what, what is missing, two moments, and what it costs."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from caravan.clock import new_id, utc_now
from caravan.database import INBOX_RETENTION
from caravan.errors import NotFound, ServiceUnavailable
from caravan.runtime import Backends
from caravan.timeline import TimelineGap, TimelinePart, build_timeline_operation
from tests.support.database import count_statements
from tests.support.scenario import ShopScenario, run_whole_shop
from tests.support.shop import wait_until

STATEMENTS_AT_MOST = 30
"""Of all services together, whatever the order's size."""


@dataclass
class Order:
    scenario: ShopScenario
    id: str
    owner: dict[str, str]
    staff: dict[str, str]

    async def read(self, headers: dict[str, str] | None = None, **params: str) -> dict[str, Any]:
        response = await self.scenario.program.client.get(
            f"/v1/orders/{self.id}/timeline", headers=headers or self.staff, params=params
        )
        assert response.status_code == 200, response.text
        return dict(response.json())


@pytest.fixture(scope="module")
async def order(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Order]:
    """Delivered, after two attempts to charge it."""
    async with run_whole_shop(backends, tmp_path_factory.mktemp("shop")) as scenario:
        program = scenario.program
        owner, sku = await program.register_customer(), await program.create_product(stock=10)
        order_id = (await program.place_order(owner, sku, token="tok_flaky")).json()["id"]
        order = Order(scenario, order_id, owner, await program.authorize_operator())

        async def has_everything() -> bool:
            items = {item["id"] for item in (await order.read())["items"]}
            return {"shipment:delivered", "reservation:shipped"} <= items and any(
                item.startswith("mail:") and item.endswith(":sent") for item in items
            )

        await wait_until(has_everything, seconds=30, every=0.1)
        yield order


async def test_attempts_and_their_jobs_are_shown_with_their_keys(order: Order) -> None:
    items = {item["id"]: item for item in (await order.read())["items"]}
    first, second = items["payment:attempt:1"], items["payment:attempt:2"]
    assert first["details"]["key"] == f"{order.id}:1"
    assert items[second["cause"]]["source"] == "jobs"
    assert items[items[second["cause"]]["cause"]]["id"] == "payment:attempt:1:result"
    command = items[first["cause"]]
    assert command["kind"] == "payments.CapturePayment"
    assert [(each["consumer"], each["deliveries"], each["effects"]) for each in command["deliveries"]] == [
        ("payments.capture", 1, 1)
    ]
    assert items[command["cause"]]["kind"] == "capture_payment"


async def test_a_customer_sees_what_happened_and_nothing_of_how(order: Order) -> None:
    timeline = await order.read(order.owner)
    items = timeline["items"]
    assert {item["source"] for item in items}.isdisjoint({"topics", "queues", "saga", "jobs", "audit"})
    assert {"events", "stock", "provider", "mails", "carrier"} <= {item["source"] for item in items}
    assert not any("key" in item["details"] or item["deliveries"] for item in items)
    assert {item["actor"] for item in items} <= {None, "customer"}
    ids = [item["id"] for item in items]
    assert all(item["cause"] in ids[:position] for position, item in enumerate(items) if position)


async def test_nobody_else_sees_it(order: Order) -> None:
    program = order.scenario.program
    for order_id, headers in ((order.id, await program.register_customer()), (str(new_id()), order.staff)):
        response = await program.client.get(f"/v1/orders/{order_id}/timeline", headers=headers)
        assert response.status_code == 404


async def test_a_service_that_is_down_is_named_and_the_rest_is_shown(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def be_down(_: Any) -> Any:
        raise ServiceUnavailable("shipping can't be reached now; try again")

    operations = order.scenario.shop.process._local_operations
    with monkeypatch.context() as patch:
        patch.setitem(operations, build_timeline_operation("shipping"), be_down)
        timeline = await order.read()
    sources = {"shipments", "carrier", "topics", "queues", "dead_letters"}
    assert {missing["source"] for missing in timeline["partial"]} == sources
    assert all(missing["service"] == "shipping" and missing["reason"] for missing in timeline["partial"])
    assert "OrderDelivered" in {item["kind"] for item in timeline["items"]}
    assert (await order.read())["partial"] == []


async def test_a_customer_is_told_what_is_missing_without_the_inside_of_the_shop(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def be_down(_: Any) -> Any:
        raise ServiceUnavailable("the pool of payments has no connection left; try again")

    async def have_pruned(_: Any) -> TimelinePart:
        before = utc_now() + timedelta(hours=1)
        sources = ("mails", "topics", "queues")
        return TimelinePart(gaps=[TimelineGap(source=name, reason="kept for a day", before=before) for name in sources])

    operations = order.scenario.shop.process._local_operations
    with monkeypatch.context() as patch:
        for service in ("payments", "processing"):
            patch.setitem(operations, build_timeline_operation(service), be_down)
        patch.setitem(operations, build_timeline_operation("notifications"), have_pruned)
        partial = (await order.read(order.owner))["partial"]
    assert {(missing["source"], missing["reason"]) for missing in partial} == {
        ("payments", "not available now"),
        ("provider", "not available now"),
        ("documents", "not available now"),
        ("mails", "no longer kept"),
    }


async def test_jobs_are_missing_when_one_is_not_there_any_more(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    async def find_nothing(*_: Any) -> Any:
        raise NotFound("no such job")

    context = order.scenario.shop.get_context("payments")
    clock = context.clock
    with monkeypatch.context() as patch:
        patch.setattr(context, "clock", lambda: clock() + timedelta(days=8))
        assert (await order.read())["partial"] == []
    monkeypatch.setattr("services.payments.timeline.get_job", find_nothing)
    [missing] = (await order.read())["partial"]
    assert (missing["source"], missing["service"]) == ("jobs", "payments")
    assert missing["before"]


async def test_what_was_pruned_is_named_with_its_date(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    context = order.scenario.shop.get_context("shipping")
    clock = context.clock
    monkeypatch.setattr(context, "clock", lambda: clock() + INBOX_RETENTION + timedelta(hours=1))
    partial = (await order.read())["partial"]
    assert {(missing["source"], missing["service"]) for missing in partial} == {
        ("topics", "shipping"),
        ("queues", "shipping"),
    }
    assert all(missing["before"] and "14 days" in missing["reason"] for missing in partial)


async def test_the_difference_of_two_moments(order: Order) -> None:
    items = {item["id"]: item for item in (await order.read())["items"]}
    reserved = items["event:2"]
    assert reserved["kind"] == "InventoryReserved"
    difference = (await order.read(to=reserved["causal_time"]))["difference"]
    assert difference["since"] is None
    changes = {(each["subject"], each["field"]): (each["before"], each["after"]) for each in difference["changes"]}
    assert changes["order", "status"] == (None, "reserved")
    later = (await order.read(**{"from": reserved["causal_time"]}))["difference"]
    changes = {(each["subject"], each["field"]): (each["before"], each["after"]) for each in later["changes"]}
    assert changes["order", "status"] == ("reserved", "delivered")
    assert changes["shipment", "status"] == (None, "delivered")
    assert "event:1" not in later["items"]
    assert "shipment:delivered" in later["items"]


async def test_moments_the_wrong_way_round_are_refused(order: Order) -> None:
    response = await order.scenario.program.client.get(
        f"/v1/orders/{order.id}/timeline", headers=order.staff, params={"from": "2026-03-02", "to": "2026-03-01"}
    )
    assert response.status_code == 422
    assert response.json()["errors"] == [{"field": "query.from", "rule": "must not be after `to`"}]


async def test_it_costs_a_bounded_number_of_statements(order: Order) -> None:
    databases = {id(each): each for each in _list_databases(order)}.values()
    before = sum(count_statements(database) for database in databases)
    await order.read()
    assert sum(count_statements(database) for database in databases) - before <= STATEMENTS_AT_MOST


def _list_databases(order: Order) -> list[Any]:
    """The write databases that a timeline reads, without those whose sweepers ask all the time."""
    names = ("orders", "processing", "inventory", "shipping", "notifications", "analytics")
    return [order.scenario.shop.get_database(name) for name in names]
