"""WebSockets of the graph at a gateway whose services have a process each: who does no harm is served by them, and who
does takes nothing from others.
"""

import asyncio
import contextlib
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from caravan.clock import new_id
from tests.hostile.apart import Apart
from tests.hostile.raw_requests import SESSION_SECONDS
from tests.services.gateway.graphql.test_hostile import build_body
from tests.support.shop import wait_until

ORDER = "subscription($id: UUID!) { orderChanges(orderId: $id) { version status } }"
STOCK = "subscription($sku: String!) { stockChanges(sku: $sku) { available } }"
ENDS = {1000, 1001, 1002, 1007, 1008, 1009, 1012, 1013, 4400, 4401, 4403, 4408, 4409, 4429}
"""The codes with which a socket may end: none says that something of ours has failed."""


@contextlib.asynccontextmanager
async def _open(shop: Apart, who: dict[str, str] | None = None) -> AsyncIterator[ClientConnection]:
    url = f"ws://{shop.program.client.base_url.netloc.decode()}/graphql"
    async with connect(
        url, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None, close_timeout=10, ping_interval=None
    ) as socket:
        if who is not None:
            await _send(socket, {"type": "connection_init", "payload": who})
            assert await _receive(socket) == {"type": "connection_ack"}
        yield socket


async def _send(socket: ClientConnection, message: Any) -> None:
    await socket.send(message if isinstance(message, bytes) else orjson.dumps(message).decode())


async def _receive(socket: ClientConnection) -> Any:
    async with asyncio.timeout(20):
        return orjson.loads(await socket.recv())


def _ask(operation_id: str, query: str, **variables: Any) -> Any:
    return {"type": "subscribe", "id": operation_id, "payload": {"query": query, "variables": variables}}


async def _are_closed(shop: Apart) -> bool:
    shown = (await shop.program.client.get("/metrics")).text
    counts = re.findall(r"^caravan_gateway_(?:sockets|streams) (\S+)", shown, re.MULTILINE)
    return len(counts) == 2 and not any(map(float, counts))


async def test_live_status_comes_from_services_in_other_processes(shop: Apart) -> None:
    async with _open(shop, shop.who) as socket:
        await _send(socket, _ask("order", ORDER, id=shop.order_id))
        assert (await _receive(socket))["payload"]["data"]["orderChanges"] == {"version": 1, "status": "created"}
        await _send(socket, _ask("stock", STOCK, sku=shop.sku))
        before = (await _receive(socket))["payload"]["data"]["stockChanges"]["available"]
        body, staff = {"kind": "receive", "quantity": 5}, await shop.program.authorize_operator()
        path = f"/v1/stock/{shop.sku}/movements"
        assert (await shop.program.client.post(path, json=body, headers=staff)).status_code == 201
        after = await _receive(socket)
        assert (after["id"], after["payload"]["data"]["stockChanges"]["available"]) == ("stock", before + 5)


async def test_hundreds_of_sockets_from_one_address_take_nothing_from_requests(shop: Apart) -> None:
    async with shop.others_served(least=200), contextlib.AsyncExitStack() as stack:
        opened = await asyncio.gather(
            *(stack.enter_async_context(_open(shop, {})) for _ in range(300)), return_exceptions=True
        )
        refused = Counter(found.response.status_code for found in opened if isinstance(found, InvalidStatus))
        assert set(refused) <= {429, 503}, opened
        assert 0 < 300 - refused.total() <= 100
    await wait_until(lambda: _are_closed(shop), seconds=40, every=0.2)


def _build_messages(chance: random.Random) -> list[Any]:
    """What somebody could send after, or instead of, `connection_init`."""
    messages: list[Any] = []
    for number in range(chance.randint(1, 12)):
        body = build_body(chance)
        if isinstance(body, bytes):
            messages.append(chance.choice([body[:100_000], body[:100_000].decode("latin-1"), os.urandom(50)]))
        else:
            messages.append({"type": "subscribe", "id": str(number % 10), "payload": body})
        messages += chance.choice(
            [
                [],
                [],
                [],
                [{"type": "ping", "payload": {"x": 1}}] * 20,
                [{"type": "complete", "id": str(number)}] * 3,
                [{"type": "connection_init"}],
                [{"type": "connection_ack"}],
                ["x" * 140_000],
            ]
        )
    return messages


async def _attack(shop: Apart, chance: random.Random, who: dict[str, str] | None) -> int:
    """The code with which the socket ended."""
    async with _open(shop, who) as socket:

        async def read() -> None:
            with contextlib.suppress(ConnectionClosed):
                async for text in socket:
                    message = orjson.loads(text)
                    problems = message.get("payload") if message["type"] == "error" else []
                    assert all(error["extensions"]["problem"]["status"] < 500 for error in problems), text

        reading = asyncio.create_task(read())
        # Where the shop has ended the socket while data of ours was unsent, websockets aborts a transport that is gone,
        # and asyncio of Python 3.11 stumbles over that with an AttributeError.
        with contextlib.suppress(ConnectionClosed, AttributeError):
            for message in _build_messages(chance):
                await _send(socket, message)
            await asyncio.sleep(0.2)
            await socket.close()
        async with asyncio.timeout(30):
            await reading
    assert socket.close_code is not None
    return socket.close_code


async def test_hostile_messages_end_their_own_socket_at_most(shop: Apart) -> None:
    chance = random.Random(11)
    callers = [None, {}, shop.who, await shop.program.authorize_operator()]
    async with shop.others_served():
        codes: Counter[int] = Counter()
        for _ in range(10):
            codes.update(await asyncio.gather(*(_attack(shop, random.Random(chance.random()), who) for who in callers)))
    assert set(codes) <= ENDS, codes
    assert {1000, 4400} <= set(codes), codes
    await wait_until(lambda: _are_closed(shop), seconds=40, every=0.2)


@pytest.mark.parametrize("how", ["disabled", "new password"])
async def test_a_socket_ends_soon_after_its_session(shop: Apart, how: str) -> None:
    email, password = f"{new_id()}@example.com", "a long enough password"
    client = shop.program.client
    form = {"email": email, "password": password, "name": "Eve Moneypenny"}
    user_id = (await client.post("/v1/users", json=form)).json()["id"]
    watching, acting = [
        {"authorization": f"Bearer {await shop.program.fetch_token(username=email, password=password)}"}
        for _ in range(2)
    ]
    async with _open(shop, watching) as socket:
        if how == "disabled":
            changed = await client.patch(
                f"/v1/users/{user_id}", json={"disabled": True}, headers=await shop.program.authorize_operator()
            )
        else:
            new = {"current_password": password, "new_password": "another long password"}
            changed = await client.post("/v1/users/me/password", json=new, headers=acting)
        assert changed.status_code in (200, 204), changed.text
        async with asyncio.timeout(SESSION_SECONDS + 5):
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        assert socket.close_code == 4403
