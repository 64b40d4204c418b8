"""One suite for all ways to watch an order, Server-Sent Events and GraphQL subscriptions over these and WebSockets:
nothing missed, nothing out of order, whatever ends on the way.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import orjson
import pytest
from gql import Client, gql
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from gql.transport.exceptions import TransportClosed, TransportConnectionFailed, TransportQueryError
from redis.asyncio import Redis

from services.gateway.settings import Settings
from services.gateway.streams import LiveStreams
from tests.services.gateway.graphql.graph_case import GraphCase

Headers = dict[str, str]
Change = dict[str, Any]
Watch = Callable[[httpx2.AsyncClient, Headers, str, int], AsyncIterator[Change]]

SUBSCRIPTION = """subscription($id: UUID!, $after: Int! = 0) {
  orderChanges(orderId: $id, afterVersion: $after) { version status }
}"""
ORDERS = 12


class WatchRefused(Exception):
    pass


async def _read_blocks(answer: httpx2.Response) -> AsyncIterator[dict[str, str]]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if not line and "data" in fields:
            yield fields
        if not line:
            fields = {}
        name, _, value = line.partition(":")
        fields[name] = value.strip()


async def watch_by_rest(
    client: httpx2.AsyncClient, headers: Headers, order_id: str, after: int
) -> AsyncIterator[Change]:
    resume = {"last-event-id": str(after)} if after else {}
    async with client.stream("GET", f"/v1/orders/{order_id}/events", headers={**headers, **resume}) as answer:
        if answer.status_code >= 400:
            raise WatchRefused(answer.status_code)
        async for fields in _read_blocks(answer):
            if fields["event"] == "status":
                change = orjson.loads(fields["data"])
                assert change["version"] == int(fields["id"])
                yield change


async def watch_by_graph(
    client: httpx2.AsyncClient, headers: Headers, order_id: str, after: int
) -> AsyncIterator[Change]:
    body = {"query": SUBSCRIPTION, "variables": {"id": order_id, "after": after}}
    accept = {"accept": "text/event-stream", **headers}
    async with client.stream("POST", "/graphql", json=body, headers=accept) as answer:
        if answer.status_code >= 400:
            raise WatchRefused(answer.status_code)
        async for fields in _read_blocks(answer):
            if fields["event"] == "next":
                result = orjson.loads(fields["data"])
                if "errors" in result:
                    raise WatchRefused(result["errors"])
                yield result["data"]["orderChanges"]


async def watch_by_socket(
    client: httpx2.AsyncClient, headers: Headers, order_id: str, after: int
) -> AsyncIterator[Change]:
    transport = AIOHTTPWebsocketsTransport(
        f"ws://{client.base_url.netloc.decode()}/graphql", init_payload=headers, close_timeout=0.1
    )
    query = gql(SUBSCRIPTION)
    query.variable_values = {"id": order_id, "after": after}
    try:
        async with Client(transport=transport) as session:
            async for result in session.subscribe(query):
                yield result["orderChanges"]
    except TransportQueryError as error:
        raise WatchRefused(error) from error
    except (TransportClosed, TransportConnectionFailed):
        return  # as the other ways end that are cut off


@pytest.fixture(params=[watch_by_rest, watch_by_graph, watch_by_socket], ids=["rest", "graphql", "websocket"])
def watch(request: pytest.FixtureRequest) -> Watch:
    way: Watch = request.param
    return way


@pytest.fixture(scope="module")
async def client(graph: GraphCase) -> AsyncIterator[httpx2.AsyncClient]:
    async with graph.listen() as made:
        yield made


async def _place(graph: GraphCase, who: Headers, sku: str) -> str:
    return str((await graph.program.place_order(who, sku)).json()["id"])


async def _follow(watch: Watch, client: httpx2.AsyncClient, who: Headers, order_id: str) -> list[Change]:
    """All changes up to the delivery, as a client sees them that connects again whenever it is cut off."""
    seen: list[Change] = []
    while not seen or seen[-1]["status"] != "delivered":
        with contextlib.suppress(httpx2.TransportError, WatchRefused):  # one that ended before it began is a 401
            async for change in watch(client, who, order_id, seen[-1]["version"] if seen else 0):
                seen.append(change)
        await asyncio.sleep(random.uniform(0, 0.05))
    return seen


async def test_an_order_is_watched_from_its_start_to_its_end_and_resumed_anywhere(
    graph: GraphCase, client: httpx2.AsyncClient, watch: Watch
) -> None:
    who = await graph.program.register_customer()
    placed = await _place(graph, who, await graph.program.create_product(stock=1))
    async with asyncio.timeout(60):
        seen = [change async for change in watch(client, who, placed, 0)]
        assert [change["version"] for change in seen] == list(range(1, len(seen) + 1))
        assert seen[-1]["status"] == "delivered"
        for after in range(len(seen) + 1):
            assert [change async for change in watch(client, who, placed, after)] == seen[after:]


async def test_a_version_that_is_unknown_brings_everything(
    graph: GraphCase, client: httpx2.AsyncClient, watch: Watch
) -> None:
    who = await graph.program.register_customer()
    placed = await _place(graph, who, await graph.program.create_product(stock=1))
    async with asyncio.timeout(60):
        seen = [change async for change in watch(client, who, placed, 0)]
        assert [change async for change in watch(client, who, placed, 99)] == seen


async def test_somebody_elses_order_is_not_watched(graph: GraphCase, client: httpx2.AsyncClient, watch: Watch) -> None:
    who, other = await graph.program.register_customer(), await graph.program.register_customer()
    placed = await _place(graph, who, await graph.program.create_product(stock=1))
    for headers in (other, {}):
        with pytest.raises(WatchRefused):
            [change async for change in watch(client, headers, placed, 0)]


async def test_a_stream_ends_in_its_time_and_goes_on_where_it_was(
    graph: GraphCase, client: httpx2.AsyncClient, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.streams.STREAM_SECONDS", (0.1, 0.2))
    monkeypatch.setattr("services.gateway.streams.CHECK_SECONDS", 0.05)
    who = await graph.program.register_customer()
    placed = await _place(graph, who, await graph.program.create_product(stock=1))
    cuts = 0

    async def watch_and_count_cuts(*arguments: Any) -> AsyncIterator[Change]:
        nonlocal cuts
        status = ""
        async for change in watch(*arguments):
            status = change["status"]
            yield change
        cuts += status != "delivered"

    async with asyncio.timeout(60):
        seen = await _follow(watch_and_count_cuts, client, who, placed)
    assert cuts > 0, "no stream ended before the order did"
    assert [change["version"] for change in seen] == list(range(1, len(seen) + 1))


async def test_nothing_is_missed_while_redis_and_streams_are_cut_off(
    graph: GraphCase, client: httpx2.AsyncClient, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notifications are lost with Redis' connections, and streams are ended at random, while orders run."""
    context = graph.shop.get_context("gateway")
    streams = LiveStreams(
        Settings(max_streams_per_caller=100, max_streams_per_address=1000), context.resources.sessions
    )
    monkeypatch.setattr(context.resources, "streams", streams)
    who = await graph.program.register_customer()
    sku = await graph.program.create_product(stock=ORDERS)
    cuts = 0

    async def cut_off(redis: Redis) -> None:
        nonlocal cuts
        while True:
            await asyncio.sleep(random.uniform(0.02, 0.1))
            await redis.client_kill_filter(_type="pubsub")
            for slot in random.sample(sorted(streams._slots, key=id), len(streams._slots) // 3):
                slot.end()
                cuts += 1

    placed = [await _place(graph, who, sku) for _ in range(ORDERS)]
    cutting = asyncio.create_task(cut_off(context.redis))
    try:
        async with asyncio.timeout(90):
            seen = await asyncio.gather(*(_follow(watch, client, who, order_id) for order_id in placed))
    finally:
        cutting.cancel()
    for changes in seen:
        assert [change["version"] for change in changes] == list(range(1, len(changes) + 1))
    assert cuts > ORDERS / 2, "the test cut nothing off"
