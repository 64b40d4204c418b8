"""Subscriptions by Server-Sent Events: the same changes that REST streams, in the same bounds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest

from services.gateway.settings import Settings
from services.gateway.streams import LiveStreams
from tests.services.gateway.graphql.graph_case import GraphCase
from tests.support.shop import wait_until

ORDER = (
    "subscription($id: UUID!, $after: Int! = 0) { orderChanges(orderId: $id, afterVersion: $after) { version status } }"
)
STOCK = "subscription($sku: String!) { stockChanges(sku: $sku) { available } }"


@pytest.fixture(scope="module")
async def client(graph: GraphCase) -> AsyncIterator[httpx2.AsyncClient]:
    async with graph.listen() as made:
        yield made


@contextlib.asynccontextmanager
async def _subscribe(
    client: httpx2.AsyncClient, query: str, headers: dict[str, str], **variables: Any
) -> AsyncIterator[httpx2.Response]:
    body = {"query": query, "variables": variables}
    accept = {"accept": "text/event-stream", **headers}
    async with client.stream("POST", "/graphql", json=body, headers=accept) as answer:
        yield answer


async def _read_events(answer: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    event = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            event = line[7:]
        elif line.startswith("data:"):
            yield event, orjson.loads(line[5:]) if line[5:].strip() else None


async def test_an_order_is_watched_until_it_is_delivered_and_resumed(
    graph: GraphCase, client: httpx2.AsyncClient
) -> None:
    who = await graph.program.register_customer()
    placed = (await graph.program.place_order(who, await graph.program.create_product(stock=1))).json()["id"]
    async with _subscribe(client, ORDER, who, id=placed) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [event async for event in _read_events(answer)]
    assert events[-1] == ("complete", None)
    changes = [data["data"]["orderChanges"] for name, data in events[:-1] if name == "next"]
    assert [change["version"] for change in changes] == list(range(1, len(changes) + 1))
    assert changes[-1]["status"] == "delivered"
    async with _subscribe(client, ORDER, who, id=placed, after=2) as answer:
        resumed = [data["data"]["orderChanges"] async for name, data in _read_events(answer) if name == "next"]
    assert resumed == changes[2:]


async def test_somebody_elses_order_is_an_error_and_the_end(graph: GraphCase, client: httpx2.AsyncClient) -> None:
    who, other = await graph.program.register_customer(), await graph.program.register_customer()
    placed = (await graph.program.place_order(who, await graph.program.create_product(stock=1))).json()["id"]
    async with _subscribe(client, ORDER, other, id=placed) as answer:
        (name, data), last = [event async for event in _read_events(answer)]
    assert (name, last) == ("next", ("complete", None))
    assert data["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    async with _subscribe(client, ORDER, {}, id=placed) as answer:
        assert answer.status_code == 401


async def test_stock_is_watched(graph: GraphCase, client: httpx2.AsyncClient) -> None:
    sku, admin = await graph.program.create_product(stock=2), await graph.program.authorize_operator()
    async with _subscribe(client, STOCK, {}, sku=sku) as answer, asyncio.timeout(20):
        events = _read_events(answer)
        assert (await anext(events))[1]["data"]["stockChanges"] == {"available": 2}
        body = {"kind": "receive", "quantity": 3}
        assert (await client.post(f"/v1/stock/{sku}/movements", json=body, headers=admin)).status_code == 201
        assert (await anext(events))[1]["data"]["stockChanges"] == {"available": 5}


async def test_subscriptions_are_live_streams_with_their_bounds(
    graph: GraphCase, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = graph.shop.get_context("gateway").resources
    streams = LiveStreams(Settings(max_streams_per_address=1), resources.sessions)
    monkeypatch.setattr(resources, "streams", streams)
    sku = await graph.program.create_product(stock=2)
    async with _subscribe(client, STOCK, {}, sku=sku) as first:
        await anext(_read_events(first))
        async with _subscribe(client, STOCK, {}, sku=sku) as second:
            assert second.status_code == 429
        assert streams.open_streams == 1

    async def is_given_back() -> bool:
        return not streams.open_streams

    await wait_until(is_given_back, seconds=20)


async def test_a_stream_that_its_service_ends_in_between_is_not_complete(
    graph: GraphCase, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    who, sku = await graph.program.register_customer(), await graph.program.create_product(stock=2)
    for service in ("inventory", "orders"):
        monkeypatch.setattr(graph.shop.get_context(service).resources.live, "_stream_seconds", 0.01)
    async with _subscribe(client, STOCK, {}, sku=sku) as answer, asyncio.timeout(20):
        assert {name for name, _ in [event async for event in _read_events(answer)]} == {"next"}
    placed = (await graph.program.place_order(who, sku)).json()["id"]  # it is under way when its stream ends
    async with _subscribe(client, ORDER, who, id=placed) as answer, asyncio.timeout(20):
        assert {name for name, _ in [event async for event in _read_events(answer)]} == {"next"}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (
            "application/graphql-response+json, application/json, text/event-stream, multipart/mixed",
            "application/graphql-response+json",
        ),
        ("application/json, text/event-stream", "application/json"),
        ("text/event-stream;q=0.5, */*", "application/json"),
        ("text/event-stream", "text/event-stream"),
    ],
)
async def test_a_query_is_answered_as_its_client_accepts(
    client: httpx2.AsyncClient, accept: str, media_type: str
) -> None:
    answer = await client.post("/graphql", json={"query": "{ __typename }"}, headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)
    assert '"__typename":"Query"' in answer.text
    if media_type == "text/event-stream":
        assert answer.text.endswith("event: complete\ndata:\n\n")


async def test_a_subscription_that_is_not_streamed_is_refused(graph: GraphCase) -> None:
    assert (await graph.post(STOCK, sku="A")).status_code == 400
