"""Who may open a socket of the graph: with which token, from which page, by which protocol."""

import contextlib
from collections.abc import AsyncIterator

import httpx2
import orjson
import pytest
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from services.gateway.graphql.handshake import check_origin
from tests.services.gateway.graphql.graph_case import GraphCase, Json
from tests.services.gateway.graphql.graph_sockets import (
    INIT,
    ME,
    await_close,
    connect_socket,
    make_subscribe,
    receive_message,
    send_messages,
)


@pytest.fixture(scope="module")
async def client(graph: GraphCase) -> AsyncIterator[httpx2.AsyncClient]:
    async with graph.listen() as made:
        yield made


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"path": "/graphql?token=x"}, 400),
        ({"additional_headers": {"authorization": "Bearer x.y.z"}}, 401),
        ({"additional_headers": [("authorization", "Bearer a"), ("authorization", "Bearer b")]}, 400),
        ({"origin": Origin("https://evil.example")}, 403),
        ({"origin": Origin("null")}, 403),
    ],
)
async def test_handshakes_that_are_refused(client: httpx2.AsyncClient, more: Json, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect_socket(client, **more)
    assert refused.value.response.status_code == status
    assert orjson.loads(refused.value.response.body)["trace_id"]


@pytest.mark.parametrize(
    ("origin", "host", "is_own"),
    [
        ("https://shop.example", "shop.example", True),
        ("https://shop.example", "Shop.Example:443", True),
        ("http://shop.example:8080", "shop.example:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://shop.example", "shop.example:443", False),
        ("https://shop.example:444", "shop.example", False),
        ("https://shop.example.evil.example", "shop.example", False),
        ("https://shop.example@evil.example", "shop.example", False),
        ("https://evil.example/shop.example", "shop.example", False),
        ("ftp://shop.example", "shop.example", False),
        ("shop.example", "shop.example", False),
        ("https://shop.example:x", "shop.example", False),
        ("", "", False),
    ],
)
def test_only_pages_of_the_shops_own_origin_are_taken(origin: str, host: str, is_own: bool) -> None:
    headers = {b"origin": origin.encode(), b"host": host.encode()}
    with contextlib.nullcontext() if is_own else pytest.raises(Exception, match="another origin"):
        check_origin(headers)


async def test_another_protocol_is_not_acceptable(client: httpx2.AsyncClient) -> None:
    async with connect_socket(client, protocol="graphql-ws") as socket:
        assert await await_close(socket) == 4406


async def test_a_token_may_stand_in_the_header(graph: GraphCase, client: httpx2.AsyncClient) -> None:
    who = await graph.program.register_customer()
    origin = Origin(f"http://{client.base_url.netloc.decode()}")
    async with connect_socket(client, additional_headers=who, origin=origin) as socket:
        await send_messages(socket, INIT, make_subscribe("1", ME))
        assert await receive_message(socket) == {"type": "connection_ack"}
        assert "@" in (await receive_message(socket))["payload"]["data"]["me"]["email"]
