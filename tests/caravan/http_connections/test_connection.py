"""What a server sends is the answer, however it comes; what it does not send is an error of the connection."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.http_client import HttpClient
from caravan.http_connections import KeptConnections
from caravan.http_connections.connection import MAX_HEADER_BYTES
from tests.caravan.http_connections.scripted_server import Exchange, answer_with, run_server

TIMES = httpx2.Timeout(5.0)
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: \xe4\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"
)
MEASURED = b"HTTP/1.1 404 Not There\r\ncontent-length: 7\r\nx-b:  2 \r\n\r\nabcdefg"
UNTIL_THE_END = b"HTTP/1.0 200 OK\r\n\r\nabcdefg"


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    async with HttpClient(transport=KeptConnections(5), timeout=TIMES) as client:
        yield client


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (CHUNKED, 200, "OK"),
        (MEASURED, 404, "Not There"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + MEASURED, 404, "Not There"),
    ],
)
async def test_an_answer_is_what_was_sent(client: HttpClient, data: bytes, status: int, reason: str) -> None:
    async with run_server(answer_with(data)) as server:
        for _ in range(3):
            answer = await client.post(f"{server.url}/a%20b?c=d", content=b"question", headers={"x-name": "value"})
            assert (answer.status_code, answer.reason_phrase, answer.content) == (status, reason, b"abcdefg")
        assert server.connection_count == 1
        head = server.requests[0].head
        assert head.startswith(b"POST /a%20b?c=d HTTP/1.1\r\n")
        assert b"\r\nx-name: value\r\n" in head
        assert server.requests[2].body == b"question"


async def test_headers_keep_their_bytes_and_repetitions(client: HttpClient) -> None:
    async with run_server(answer_with(CHUNKED)) as server:
        answer = await client.get(server.url)
    assert [value for name, value in answer.headers.raw if name == b"X-A"] == [b"1", b"\xe4"]


@given(st.sampled_from([CHUNKED, MEASURED]), st.lists(st.integers(1, 40), max_size=12))
async def test_it_does_not_matter_in_which_pieces_it_comes(data: bytes, sizes: list[int]) -> None:
    async def answer_in_pieces(exchange: Exchange) -> None:
        rest = data
        for size in sizes:
            piece, rest = rest[:size], rest[size:]
            await exchange.send(piece)
            await asyncio.sleep(0)
        await exchange.send(rest)

    async with run_server(answer_in_pieces) as server, HttpClient(transport=KeptConnections(1), timeout=TIMES) as http:
        for _ in range(2):
            assert (await http.get(server.url)).content == b"abcdefg"
        assert server.connection_count == 1


async def test_a_body_without_a_length_ends_with_its_connection(client: HttpClient) -> None:
    async def answer_and_close(exchange: Exchange) -> None:
        await exchange.send(UNTIL_THE_END)
        exchange.writer.close()

    async with run_server(answer_and_close) as server:
        assert (await client.get(server.url)).content == b"abcdefg"
        assert (await client.get(server.url)).content == b"abcdefg"
        assert server.connection_count == 2


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\n\r\n"),
    ],
)
async def test_some_answers_have_no_body(client: HttpClient, method: str, data: bytes) -> None:
    async with run_server(answer_with(data)) as server:
        for _ in range(2):
            assert (await client.request(method, server.url)).content == b""


@pytest.mark.parametrize(
    ("sent", "is_reset", "error"),
    [
        (b"", False, httpx2.RemoteProtocolError),
        (b"", True, httpx2.ReadError),
        (b"HTTP/1.1 200 OK\r\ncontent-le", False, httpx2.RemoteProtocolError),
        (MEASURED[:-1], False, httpx2.RemoteProtocolError),
        (CHUNKED[:-2], False, httpx2.RemoteProtocolError),
        (MEASURED[:-1], True, httpx2.ReadError),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False, httpx2.RemoteProtocolError),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            False,
            httpx2.RemoteProtocolError,
        ),
        (b"HTTP/1.1 200 OK\r\nx-endless: " + b"x" * MAX_HEADER_BYTES, False, httpx2.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\n" + b"x-long: %s\r\n" % (b"x" * MAX_HEADER_BYTES), False, httpx2.RemoteProtocolError),
    ],
)
async def test_a_server_that_does_not_answer_as_it_should_is_at_fault(
    client: HttpClient, sent: bytes, is_reset: bool, error: type[Exception]
) -> None:
    async def answer_and_end(exchange: Exchange) -> None:
        await exchange.send(sent)
        if is_reset:
            exchange.reset()
        else:
            exchange.writer.close()

    async with run_server(answer_and_end) as server:
        for _ in range(2):
            with pytest.raises((error, httpx2.RemoteProtocolError) if is_reset else error):
                await client.get(server.url)


async def test_a_server_that_says_nothing_is_waited_for_as_long_as_asked(client: HttpClient) -> None:
    async def say_nothing(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with run_server(say_nothing) as server:
        with pytest.raises(httpx2.ReadTimeout):
            await client.get(server.url, timeout=httpx2.Timeout(5.0, read=0.05))

    async def begin_only(exchange: Exchange) -> None:
        await exchange.send(MEASURED[:-3])
        await asyncio.Event().wait()

    async with run_server(begin_only) as server:
        with pytest.raises(httpx2.ReadTimeout):
            await client.get(server.url, timeout=httpx2.Timeout(5.0, read=0.05))


async def test_a_body_is_read_no_faster_than_it_is_taken(client: HttpClient) -> None:
    sent, block = 0, b"x" * 65_536

    async def send_much(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (200 * len(block)))
        for _ in range(200):
            await exchange.send(block)
            sent += len(block)

    async with run_server(send_much) as server, client.stream("GET", server.url) as answer:
        last, repeats = -1, 0
        while repeats < 20:  # until the sender is stuck
            await asyncio.sleep(0.01)
            last, repeats = sent, repeats + 1 if sent == last else 0
        assert sent < 190 * len(block)
        assert len(await answer.aread()) == 200 * len(block)


async def test_an_answer_before_all_was_written_counts(client: HttpClient) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        await reader.read(20_000_000)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        answer = await client.post(url, content=b"x" * 10_000_000)
        assert answer.status_code == 413


async def test_who_leaves_an_answer_closes_its_connection(client: HttpClient) -> None:
    is_closed = asyncio.Event()

    async def answer_for_ever(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        try:
            while True:
                await exchange.send(b"1\r\na\r\n")
                await asyncio.sleep(0.01)
        finally:
            is_closed.set()

    async with run_server(answer_for_ever) as server:
        async with client.stream("GET", server.url) as answer:
            assert await anext(answer.aiter_raw())
        async with asyncio.timeout(5):
            await is_closed.wait()
