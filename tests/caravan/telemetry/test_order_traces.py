"""Each order's trace, with those that are linked to it, leads through every service that handles it."""

import asyncio
import re
from pathlib import Path

import pytest
from opentelemetry.trace import SpanKind

from caravan.runtime import Backends
from tests.faults.repeating import wait_for_rest
from tests.support.collector import Collector, run_collector
from tests.support.program import Program, run_process_per_service
from tests.support.scenario import run_whole_shop
from tests.support.shop import wait_until
from tests.support.spans import SpanGraph, Spans, collect_spans

ORDERS = 50
HANDLERS = {
    *("gateway", "orders", "processing", "inventory", "payments", "shipping"),
    *("notifications", "analytics", "recommendations"),
}
LINKS_MAX = 20
STEPS = {"publish order-created", "process order-created", "process payments.capture", "capture payment", "send mail"}


async def place_orders(program: Program) -> dict[str, str]:
    """Trace by order."""
    who, sku = await program.register_customer(), await program.create_product(stock=1000)
    responses = await asyncio.gather(
        *(program.place_order(who, sku, token="tok_ok" if number % 10 else "tok_flaky") for number in range(ORDERS))
    )
    traces = {}
    for response in responses:
        assert response.status_code == 202, response.text
        order_id = str(response.json()["id"])
        history = await program.client.get(f"/v1/orders/{order_id}/history", headers=who)
        traces[order_id] = str(history.json()["items"][0]["trace_id"])
    assert len(set(traces.values())) == ORDERS
    return traces


def find_gaps(graph: SpanGraph, traces: dict[str, str]) -> dict[str, set[str]]:
    """By order: the services and steps that its trace does not lead to."""
    gaps = {}
    for order_id, trace_id in traces.items():
        journey = graph.list_journey(trace_id)
        gaps[order_id] = (HANDLERS | STEPS) - {node.service for node in journey} - {node.name for node in journey}
    return {order_id: missing for order_id, missing in gaps.items() if missing}


@pytest.fixture(scope="module")
async def followed(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> tuple[Spans, dict[str, str]]:
    """What the whole shop in this process sent, and the orders that were placed meanwhile."""
    with collect_spans() as spans:
        async with run_whole_shop(backends, tmp_path_factory.mktemp("traces") / "shop") as scenario:
            traces = await place_orders(scenario.program)
            scenario.orders |= dict.fromkeys(traces, "delivered")
            await wait_for_rest(scenario, backends)
    return spans, traces


def test_each_order_is_followed_through_every_service(followed: tuple[Spans, dict[str, str]]) -> None:
    spans, traces = followed
    graph = spans.build_graph()
    assert find_gaps(graph, traces) == {}
    assert graph.list_orphans() == []
    assert graph.list_without_parent() == []


def test_an_order_has_few_links(followed: tuple[Spans, dict[str, str]]) -> None:
    """They were half of what telemetry cost, when each message of a batch had one at each reader: 41 an order."""
    assert sum(len(span.links) for span in followed[0].all) / ORDERS < LINKS_MAX


def test_names_are_few(followed: tuple[Spans, dict[str, str]]) -> None:
    names = {span.name for span in followed[0].all}
    assert [name for name in names if re.search(r"\d{3}|[0-9a-f]{8}|@", name)] == []
    assert len(names) < 100
    assert {"POST /v1/orders", "publish notifications.standard-send", "process notifications.standard-send"} < names


def test_what_spans_say_is_what_the_conventions_say(followed: tuple[Spans, dict[str, str]]) -> None:
    for span in followed[0].all:
        attributes = span.attributes
        if span.kind in (SpanKind.PRODUCER, SpanKind.CONSUMER):
            operation = {SpanKind.PRODUCER: ("publish", "send"), SpanKind.CONSUMER: ("process", "process")}[span.kind]
            assert (attributes["messaging.operation.name"], attributes["messaging.operation.type"]) == operation
            assert span.name == f"{operation[0]} {attributes['messaging.destination.name']!s}"
            assert attributes["messaging.system"] in ("postgresql", "bullmq")
            assert int(str(attributes.get("messaging.batch.message_count", 1))) >= 1
        elif span.kind is SpanKind.SERVER:
            assert attributes["http.request.method"] == span.name.split()[0]
            assert span.name.endswith(str(attributes["http.route"]))
            assert "url.path" not in attributes


@pytest.mark.slow
async def test_a_process_per_service_is_followed_as_well(tmp_path: Path) -> None:
    with run_collector() as collector:
        await follow_processes(collector, tmp_path / "shop")


async def follow_processes(collector: Collector, data: Path) -> None:
    async with run_process_per_service(data, CARAVAN_OTLP_ENDPOINT=collector.endpoint) as program:
        traces = await place_orders(program)
        admin = await program.authorize_operator()
        for order_id in traces:
            await program.wait_for_status(admin, order_id, "delivered", seconds=60)

        async def is_complete() -> bool:
            assert find_gaps(collector.build_graph(), traces) == {}
            return True

        await wait_until(is_complete, seconds=60, every=1)
    assert collector.build_graph().list_orphans() == []
