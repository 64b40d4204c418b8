"""Connections are kept for the next request, and are never more than they may be."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest

from caravan.http_client import HttpClient
from caravan.http_connections import KeptConnections, pool
from caravan.http_connections.connection import Connection
from tests.caravan.http_connections.scripted_server import Exchange, answer_with, run_server
from tests.support.certificates import create_authority
from tests.support.shop import wait_until

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
TIMES = httpx2.Timeout(5.0)


async def test_as_many_connections_as_requests_at_a_time() -> None:
    async with run_server(answer_with(ANSWER)) as server, HttpClient(transport=KeptConnections(3)) as client:
        answers = await asyncio.gather(*(client.get(server.url) for _ in range(50)))
        assert {answer.content for answer in answers} == {b"ok"}
        assert server.connection_count <= 3
        assert len(server.requests) == 50


async def test_places_are_shared_between_servers() -> None:
    async with (
        run_server(answer_with(ANSWER)) as first,
        run_server(answer_with(ANSWER)) as second,
        HttpClient(transport=KeptConnections(2), timeout=TIMES) as client,
    ):
        answers = await asyncio.gather(*(client.get(server.url) for _ in range(20) for server in (first, second)))
        assert len(answers) == 40
        assert (len(first.requests), len(second.requests)) == (20, 20)


async def test_who_gets_no_place_in_time_is_told_so() -> None:
    release = asyncio.Event()

    async def answer_later(exchange: Exchange) -> None:
        await release.wait()
        await exchange.send(ANSWER)

    async with run_server(answer_later) as server, HttpClient(transport=KeptConnections(1), timeout=TIMES) as client:
        first = asyncio.create_task(client.get(server.url))
        await wait_until(lambda: _has(server.requests, 1))
        with pytest.raises(httpx2.PoolTimeout):
            await client.get(server.url, timeout=httpx2.Timeout(5.0, pool=0.02))
        release.set()
        assert (await first).status_code == 200
        assert (await client.get(server.url)).status_code == 200
        assert server.connection_count == 1


async def test_places_of_those_that_were_cancelled_are_free_again() -> None:
    async def say_nothing(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    transport = KeptConnections(2)
    async with run_server(say_nothing) as server, HttpClient(transport=transport, timeout=TIMES) as client:
        waiting = [asyncio.create_task(client.get(server.url)) for _ in range(6)]
        await wait_until(lambda: _has(server.requests, 2))
        for task in reversed(waiting):
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        server.answer = answer_with(ANSWER)
        answers = await asyncio.gather(*(client.get(server.url) for _ in range(4)))
        assert [answer.content for answer in answers] == [b"ok"] * 4


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    transport = KeptConnections(5)
    async with run_server(answer_with(ANSWER)) as server, HttpClient(transport=transport) as client:
        for number in range(1, 4):
            assert (await client.get(server.url)).content == b"ok"
            assert server.connection_count == number
            server.writers[-1].close()
            await wait_until(lambda: _is_empty(transport))


async def test_one_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with run_server(answer_with(ANSWER)) as server, HttpClient(transport=KeptConnections(1)) as client:
        await client.get(server.url)
        monkeypatch.setattr(pool, "IDLE_SECONDS", 0.0)
        await client.get(server.url)
        assert server.connection_count == 2


async def test_what_comes_unasked_ends_the_connection() -> None:
    async def answer_twice(exchange: Exchange) -> None:
        await exchange.send(ANSWER + ANSWER)

    async with run_server(answer_twice) as server, HttpClient(transport=KeptConnections(2), timeout=TIMES) as client:
        for _ in range(3):
            assert (await client.get(server.url)).content == b"ok"
        assert server.connection_count == 3


async def test_a_connection_that_is_reset_as_soon_as_it_is_made_was_none(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = KeptConnections(1)
    connection_made = Connection.connection_made

    def be_reset(connection: Connection, socket: Any) -> None:
        connection_made(connection, socket)
        connection.connection_lost(ConnectionResetError())

    async with run_server(answer_with(ANSWER)) as server, HttpClient(transport=transport, timeout=TIMES) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "connection_made", be_reset)
            with pytest.raises(httpx2.ConnectError, match="as soon as it was made"):
                await client.get(server.url)
        assert (await client.get(server.url)).content == b"ok", "its place is free again"


async def test_one_that_is_lost_while_it_is_handed_over_is_not_used() -> None:
    transport = KeptConnections(1)

    async def answer_and_go(exchange: Exchange) -> None:
        await exchange.send(ANSWER)
        for connection in list(transport._open):
            asyncio.get_running_loop().call_soon(connection.abort)

    async with run_server(answer_and_go) as server, HttpClient(transport=transport, timeout=TIMES) as client:
        for _ in range(20):
            answers = await asyncio.gather(*(client.get(server.url) for _ in range(3)), return_exceptions=True)
            assert not [each for each in answers if isinstance(each, httpx2.TimeoutException)]
        server.answer = answer_with(ANSWER)
        assert (await client.get(server.url)).content == b"ok"


async def test_whoever_waits_is_told_when_all_connections_are_closed() -> None:
    async def say_nothing(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    transport = KeptConnections(1)
    async with run_server(say_nothing) as server, HttpClient(transport=transport, timeout=TIMES) as client:
        waiting = asyncio.create_task(client.get(server.url))
        await wait_until(lambda: _has(server.requests, 1))
        await transport.aclose()
        with pytest.raises(httpx2.ReadError):
            await waiting


async def test_those_to_a_server_that_is_asked_no_more_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = KeptConnections(5)
    async with (
        run_server(answer_with(ANSWER)) as gone,
        run_server(answer_with(ANSWER)) as there,
        HttpClient(transport=transport) as client,
    ):
        await client.get(gone.url)
        monkeypatch.setattr(pool, "IDLE_SECONDS", 0.0)
        await client.get(there.url)
        assert [connection.origin[2] for connection in transport._open] == [httpx2.URL(there.url).port]


async def test_nobody_listens() -> None:
    async with run_server(answer_with(ANSWER)) as server:
        url = server.url
    async with HttpClient(transport=KeptConnections(1), timeout=TIMES) as client:
        for _ in range(2):
            with pytest.raises(httpx2.ConnectError):
                await client.get(url)
        with pytest.raises(httpx2.ConnectError):
            await client.get("http://no-such-host.invalid/")


async def test_the_server_must_be_who_it_says(tmp_path: Path) -> None:
    authority = create_authority()
    folder = authority.write_certificate(tmp_path / "server", "127.0.0.1")
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    trusted = ssl.create_default_context(cafile=str(authority.write_ca(tmp_path / "ca")))
    async with run_server(answer_with(ANSWER), served) as server:
        async with HttpClient(transport=KeptConnections(2, trusted), timeout=TIMES) as client:
            for _ in range(2):
                assert (await client.get(server.url)).content == b"ok"
        assert server.connection_count == 1
        async with HttpClient(transport=KeptConnections(2), timeout=TIMES) as client:
            with pytest.raises(httpx2.ConnectError, match="certificate"):
                await client.get(server.url)


async def _is_empty(transport: KeptConnections) -> bool:
    return not transport._open


async def _has(items: list[Exchange], count: int) -> bool:
    return len(items) >= count
