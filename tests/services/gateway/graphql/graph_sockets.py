"""Clients of the graph over WebSockets, message by message, for the tests of its protocol."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from caravan.clock import new_id
from services.gateway.graphql.socket_messages import SUBPROTOCOL
from services.gateway.streams import LiveStreams
from tests.services.gateway.graphql.graph_case import Json
from tests.support.program import ADDRESS
from tests.support.shop import wait_until

STOCK = "subscription($sku: String!) { stockChanges(sku: $sku) { available } }"
ORDER = "subscription($id: UUID!) { orderChanges(orderId: $id) { version status } }"
PLACE = "mutation($input: OrderInput!, $key: String!) { placeOrder(input: $input, idempotencyKey: $key) { id status } }"
ME = "{ me { email } }"
INIT: Json = {"type": "connection_init"}


def connect_socket(
    client: httpx2.AsyncClient, protocol: str = SUBPROTOCOL, path: str = "/graphql", **more: Any
) -> connect:
    return connect(
        f"ws://{client.base_url.netloc.decode()}{path}",
        subprotocols=[Subprotocol(protocol)],
        proxy=None,
        close_timeout=1,
        **more,
    )


async def send_messages(socket: ClientConnection, *messages: Json | str | bytes) -> None:
    for message in messages:
        await socket.send(orjson.dumps(message).decode() if isinstance(message, dict) else message)


async def receive_message(socket: ClientConnection) -> Json:
    async with asyncio.timeout(20):
        message: Json = orjson.loads(await socket.recv())
    return message


@contextlib.asynccontextmanager
async def open_socket(client: httpx2.AsyncClient, headers: Json | None = None) -> AsyncIterator[ClientConnection]:
    """A socket of whoever has this token."""
    async with connect_socket(client) as socket:
        await send_messages(socket, {**INIT, "payload": headers or {}})
        assert await receive_message(socket) == {"type": "connection_ack"}
        yield socket


def make_subscribe(operation_id: str, query: str, **variables: Any) -> Json:
    return {"type": "subscribe", "id": operation_id, "payload": {"query": query, "variables": variables}}


def make_order(operation_id: str, sku: str) -> Json:
    lines, payment = [{"sku": sku, "quantity": 1}], {"token": "tok_ok"}
    order = {"lines": lines, "shippingAddress": ADDRESS, "payment": payment}
    return make_subscribe(operation_id, PLACE, input=order, key=str(new_id()))


async def read_rest(socket: ClientConnection) -> list[Json]:
    """What still comes until the end."""
    messages: list[Json] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            messages.append(await receive_message(socket))
    return messages


async def await_close(socket: ClientConnection) -> int | None:
    await read_rest(socket)
    return socket.close_code


async def wait_for_free_slots(streams: LiveStreams) -> None:
    async def is_given_back() -> bool:
        return not streams.open_streams

    await wait_until(is_given_back, seconds=20)
