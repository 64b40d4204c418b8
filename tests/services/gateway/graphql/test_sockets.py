"""The graph over WebSockets: the protocol graphql-transport-ws with its close codes, and the same admission, limits and
ends as over HTTP.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.gateway.graphql import sockets
from services.gateway.limits import RateClass
from services.gateway.settings import Settings
from services.gateway.streams import LiveStreams
from tests.services.gateway.graphql.graph_case import GraphCase
from tests.services.gateway.graphql.graph_sockets import (
    INIT,
    ME,
    ORDER,
    STOCK,
    await_close,
    connect_socket,
    make_order,
    make_subscribe,
    open_socket,
    read_rest,
    receive_message,
    send_messages,
    wait_for_free_slots,
)
from tests.support.shop import wait_until


@pytest.fixture(scope="module")
async def client(graph: GraphCase) -> AsyncIterator[httpx2.AsyncClient]:
    async with graph.listen() as made:
        yield made


@pytest.fixture
def bound(graph: GraphCase, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Live streams with other settings."""

    def replace(**settings: Any) -> LiveStreams:
        resources = graph.shop.get_context("gateway").resources
        streams = LiveStreams(Settings(**settings), resources.sessions)
        monkeypatch.setattr(resources, "streams", streams)
        return streams

    return replace


async def test_an_order_is_placed_and_watched_on_one_socket(graph: GraphCase, client: httpx2.AsyncClient) -> None:
    sku = await graph.program.create_product(stock=1)
    async with open_socket(client, await graph.program.register_customer()) as socket:
        await send_messages(socket, make_order("place", sku))
        placed = await receive_message(socket)
        assert placed["type"] == "next", placed
        assert await receive_message(socket) == {"id": "place", "type": "complete"}
        await send_messages(socket, make_subscribe("watch", ORDER, id=placed["payload"]["data"]["placeOrder"]["id"]))
        changes = []
        while (message := await receive_message(socket))["type"] == "next":
            assert message["id"] == "watch"
            changes.append(message["payload"]["data"]["orderChanges"])
        assert message == {"id": "watch", "type": "complete"}
    assert [change["version"] for change in changes] == list(range(1, len(changes) + 1))
    assert changes[-1]["status"] == "delivered"


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["no JSON"], 4400),
        ([b"\x00\x01"], 4400),
        (["[]"], 4400),
        (["{}"], 4400),
        (["[" * 10_000], 4400),
        ([{"type": "start"}], 4400),
        ([{**INIT, "payload": "token"}], 4400),
        ([{**INIT, "payload": {"Authorization": 1}}], 4400),
        ([make_subscribe("1", STOCK, sku="A")], 4401),
        ([{**INIT, "payload": {"Authorization": "Bearer x.y.z"}}], 4403),
        ([{**INIT, "payload": {"Authorization": "Bearer é😀"}}], 4403),
        ([{**INIT, "payload": {"authorization": "Basic eDp5"}}], 4403),
        ([INIT, INIT], 4429),
        ([INIT] * 60, 4429),
        ([INIT, make_subscribe("1", STOCK, sku="A"), make_subscribe("1", STOCK, sku="B")], 4409),
        ([INIT, {"type": "subscribe", "id": "1"}], 4400),
        ([INIT, {"type": "subscribe", "payload": {"query": ME}}], 4400),
        ([INIT, make_subscribe("", ME)], 4400),
        ([INIT, make_subscribe("x" * 129, ME)], 4400),
        ([INIT, {"type": "subscribe", "id": "1", "payload": {"query": ME, "token": "x"}}], 4400),
        ([INIT, {"type": "complete"}], 4400),
        ([INIT, {"type": "next", "id": "1", "payload": {}}], 4400),
        (["x" * 200_000], 1009),
    ],
)
async def test_who_breaks_a_rule_is_told_which(client: httpx2.AsyncClient, messages: list[Any], code: int) -> None:
    async with connect_socket(client) as socket:
        with contextlib.suppress(ConnectionClosed):
            await send_messages(socket, *messages)
        assert await await_close(socket) == code
        assert socket.close_reason


async def test_who_says_nothing_is_sent_away(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "INIT_SECONDS", 0.2)
    async with connect_socket(client) as socket:
        assert await await_close(socket) == 4408
    async with open_socket(client) as socket:
        await asyncio.sleep(0.5)
        await send_messages(socket, {"type": "ping"})
        assert await receive_message(socket) == {"type": "pong"}


async def test_operations_have_the_rights_and_limits_that_they_have_by_http(
    graph: GraphCase, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    expensive = "{ orders(first: 100) { nodes { lines(first: 1000) { product { stock { sku } } } } } }"
    noted: list[tuple[str, int]] = []
    refusals = graph.shop.get_context("gateway").resources.refusals
    monkeypatch.setattr(
        refusals, "record_refusal", lambda status, actor, address, operation, reason: noted.append((operation, status))
    )
    who = await graph.program.register_customer()
    for headers, query, code, audited in (
        ({}, ME, "UNAUTHORIZED", 401),
        (who, "{ users { nodes { id } } }", "FORBIDDEN", 403),
        (who, expensive, "TOO_EXPENSIVE", None),
        (who, "{ secrets }", "BAD_REQUEST", None),
    ):
        noted.clear()
        async with open_socket(client, headers) as socket:
            await send_messages(socket, make_subscribe("1", query))
            message = await receive_message(socket)
            assert (message["type"], message["id"]) == ("error", "1")
            assert message["payload"][0]["extensions"]["code"] == code
            await send_messages(socket, make_subscribe("1", "{ __typename }"))
            assert (await receive_message(socket))["payload"] == {"data": {"__typename": "Query"}}
        assert noted == ([("GET /graphql", audited)] if audited else [])


async def test_a_query_has_the_answer_that_it_has_by_http(graph: GraphCase, client: httpx2.AsyncClient) -> None:
    sku = await graph.program.create_product(stock=3)
    query = "query($sku: String!) { product(sku: $sku) { sku stock { available } } }"
    by_http = await graph.post(query, sku=sku)
    async with open_socket(client) as socket:
        await send_messages(socket, make_subscribe("1", query, sku=sku))
        assert (await receive_message(socket))["payload"] == by_http.json()


async def test_operations_run_beside_each_other_and_end_when_the_client_says(
    graph: GraphCase, client: httpx2.AsyncClient, bound: Any
) -> None:
    streams = bound(max_streams_per_address=3)
    sku = await graph.program.create_product(stock=2)
    async with open_socket(client) as socket:
        assert streams.open_streams == 1
        await send_messages(socket, *(make_subscribe(str(number), STOCK, sku=sku) for number in range(3)))
        seen = [await receive_message(socket) for _ in range(3)]
        assert sorted(message["id"] for message in seen) == ["0", "1", "2"]
        assert streams.open_streams == 3, "the place of the socket is that of one of its subscriptions"
        await send_messages(socket, make_subscribe("3", STOCK, sku=sku))
        refused = await receive_message(socket)
        assert (refused["type"], refused["payload"][0]["extensions"]["code"]) == ("error", "TOO_MANY_REQUESTS")
        await send_messages(socket, {"type": "complete", "id": "1"}, {"type": "complete", "id": "unknown"})
        await send_messages(socket, make_subscribe("1", "{ __typename }"))
        assert {(await receive_message(socket))["type"] for _ in range(2)} == {"next", "complete"}
        await send_messages(socket, make_subscribe("1", STOCK, sku=sku))
        assert (await receive_message(socket))["payload"]["data"]["stockChanges"] == {"available": 2}
    await wait_for_free_slots(streams)


async def test_sockets_are_live_streams_with_their_bounds(client: httpx2.AsyncClient, bound: Any) -> None:
    streams = bound(max_streams_per_address=1)
    async with open_socket(client):
        with pytest.raises(InvalidStatus) as refused:
            await connect_socket(client)
        assert refused.value.response.status_code == 429
        assert refused.value.response.headers["retry-after"]
    await wait_for_free_slots(streams)


async def test_a_caller_has_a_number_of_sockets(graph: GraphCase, client: httpx2.AsyncClient, bound: Any) -> None:
    streams = bound(max_streams_per_caller=2)
    who = await graph.program.register_customer()
    async with open_socket(client, who), open_socket(client, who), connect_socket(client) as third:
        await send_messages(third, {**INIT, "payload": who})
        assert await await_close(third) == 1013
    await wait_for_free_slots(streams)


async def test_messages_count_as_reads(
    graph: GraphCase, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = graph.shop.get_context("gateway").resources.rate_classes
    monkeypatch.setattr(classes, "reads", RateClass("few reads", 10))
    who = await graph.program.register_customer()
    async with open_socket(client, who) as socket:
        await send_messages(socket, *(make_subscribe(str(number), "{ __typename }") for number in range(12)))
        messages = [await receive_message(socket) for _ in range(22)]
        refused = [message for message in messages if message["type"] == "error"]
        assert refused and refused[0]["payload"][0]["extensions"]["retry_after"] > 0
        await send_messages(socket, {"type": "ping"})
        assert await await_close(socket) == 1013


async def test_a_socket_ends_in_its_time(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.streams.STREAM_SECONDS", (0.1, 0.2))
    monkeypatch.setattr("services.gateway.streams.CHECK_SECONDS", 0.05)
    async with open_socket(client) as socket:
        assert await await_close(socket) == 1001


@pytest.mark.parametrize("how", ["session", "token"])
async def test_a_socket_ends_with_the_session_and_with_the_token(
    graph: GraphCase, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("services.gateway.streams.CHECK_SECONDS", 0.05)
    sessions = graph.shop.get_context("gateway").resources.sessions
    who, sku = await graph.program.register_customer(), await graph.program.create_product(stock=2)
    async with open_socket(client, who) as socket:
        await send_messages(socket, make_subscribe("1", STOCK, sku=sku))
        await receive_message(socket)
        if how == "session":
            for session in sessions._sessions.values():
                session.is_active, session.expires_at = False, float("inf")
        else:
            later = time.time() + 10**6
            monkeypatch.setattr("services.gateway.streams.time.time", lambda: later)
            for slot in graph.shop.get_context("gateway").resources.streams._slots:
                slot.ends_at = 0.0
        assert await await_close(socket) == 4403
    sessions._sessions.clear()


async def test_a_stream_that_its_service_ends_makes_the_client_come_again(
    graph: GraphCase, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph.shop.get_context("inventory").resources.live, "_stream_seconds", 0.01)
    sku = await graph.program.create_product(stock=2)
    async with open_socket(client) as socket:
        await send_messages(socket, make_subscribe("1", STOCK, sku=sku))
        assert await await_close(socket) == 1012


async def test_a_write_is_done_when_its_client_leaves(graph: GraphCase, client: httpx2.AsyncClient) -> None:
    who, sku = await graph.program.register_customer(), await graph.program.create_product(stock=10)
    for _ in range(5):
        async with open_socket(client, who) as socket:
            await send_messages(socket, make_order("1", sku), {"type": "complete", "id": "1"})

    async def are_placed() -> bool:
        answer = await graph.shop.client.get("/v1/orders", headers=who)
        return len(answer.json()["items"]) == 5

    await wait_until(are_placed, seconds=20)


async def test_a_server_that_stops_answers_first_and_sends_clients_elsewhere(graph: GraphCase) -> None:
    who, sku = await graph.program.register_customer(), await graph.program.create_product(stock=10)
    async with contextlib.AsyncExitStack() as stack:
        async with graph.listen() as stopping:
            socket = await stack.enter_async_context(open_socket(stopping, who))
            await send_messages(socket, make_subscribe("stock", STOCK, sku=sku))
            await receive_message(socket)
            await send_messages(socket, make_order("place", sku))
            await send_messages(socket, {"type": "ping"})
            while (await receive_message(socket))["type"] != "pong":
                pass
        messages = await read_rest(socket)
        assert socket.close_code == 1012
    assert [message["type"] for message in messages if message["id"] == "place"] in (["next", "complete"], [])
