"""What one connection may cost: heads, time and number are bounded, each refusal says why, and others are served
meanwhile.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from caravan.runtime import connections
from caravan.runtime.connections import BoundedProtocol, ConnectionLimits
from tests.services.gateway.stand_ins import listening
from tests.support.shop import wait_until


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the number of header fields; `/large` with more than any buffer holds; `/late` after the body has
    come; `/body` and `/host` with these;
    `/live` until the client has gone."""
    whole = b""
    if scope["path"] in ("/late", "/body"):
        message: Message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            whole += message.get("body", b"")
    if scope["path"] in ("/body", "/host"):
        host = next((value for name, value in scope["headers"] if name == b"host"), b"none")
        text = whole if scope["path"] == "/body" else host
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
        await send({"type": "http.response.body", "body": text})
        return
    if scope["path"] == "/live":
        await _live(receive, send)
        return
    body = b"x" * 32_000_000 if scope["path"] == "/large" else str(len(scope["headers"])).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


LIVE: set[object] = set()


async def _live(receive: Receive, send: Send) -> None:
    """Says something all the while, like a stream; in LIVE until it is told that its client has gone."""
    me = object()
    LIVE.add(me)
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    gone = asyncio.ensure_future(receive())
    while not gone.done():
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.wait({gone}, timeout=0.02)
    LIVE.discard(me)


@dataclass
class Server:
    host: str
    port: int
    bounds: ConnectionLimits
    client: httpx2.AsyncClient

    async def talk(self, raw: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(raw)
        return reader, writer

    async def answer(self, raw: bytes) -> bytes:
        """All that comes until the server closes."""
        reader, writer = await self.talk(raw)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()

    async def others_are_served(self) -> None:
        began = time.monotonic()
        assert (await self.client.get("/")).status_code == 200
        assert time.monotonic() - began < 5


@asynccontextmanager
async def served(bounds: ConnectionLimits) -> AsyncIterator[Server]:
    async with (
        listening(app, http=partial(BoundedProtocol, limits=bounds)) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield Server(client.base_url.host, client.base_url.port or 0, bounds, client)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.5)
    async with served(ConnectionLimits(max_connections=1000, max_per_address=1000)) as made:
        yield made


def _is_refused(answer: bytes, status: int) -> None:
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:100]
    assert b"content-type: application/problem+json" in answer
    assert b'"trace_id":"' in answer
    assert b"connection: close" in answer


GET = b"GET / HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    "head",
    [
        GET + b"x-large: " + b"x" * 40_000,
        GET + b"x-large: " + b"x" * 40_000 + b"\r\n\r\n",
        GET + b"".join(b"x-%d: %s\r\n" % (n, b"x" * 1000) for n in range(50)),
        GET + b"a:\r\n" * 101 + b"\r\n",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /" + b"x" * 4_000_000,
        b"POST /late HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x-trailer: " + b"x" * 300_000,
    ],
    ids=["endless value", "whole value", "many lines", "many fields", "whole path", "endless path", "trailers"],
)
async def test_heads_over_the_bound_are_refused(server: Server, head: bytes) -> None:
    reader, writer = await server.talk(head)
    try:
        answer = await asyncio.wait_for(reader.read(), 10)
        if b"chunked" not in head:
            _is_refused(answer, 431)
    except ConnectionResetError:
        assert b"chunked" in head, "a request that is under way is cut off"
    writer.close()
    await server.others_are_served()


async def test_a_head_up_to_the_bound_is_taken_in_pieces_too(server: Server) -> None:
    head = GET + b"".join(b"x-%d: %s\r\n" % (n, b"x" * 1000) for n in range(30)) + b"connection: close\r\n\r\n"
    reader, writer = await server.talk(head[:20_000])
    await writer.drain()
    await server.others_are_served()
    writer.write(head[20_000:])
    assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"32")
    writer.close()
    assert (await server.answer(head)).endswith(b"32")


@pytest.mark.parametrize(("raw", "status"), [(GET, 408), (GET[:5], 408), (b"\r\n", 408), (b"", None)])
async def test_heads_that_stall_end_in_time(server: Server, raw: bytes, status: int | None) -> None:
    answers = await asyncio.gather(*(server.answer(raw) for _ in range(30)), server.others_are_served())
    for answer in answers[:-1]:
        if status:
            _is_refused(answer, status)  # type: ignore[arg-type]
        else:
            assert answer == b""


async def test_a_head_that_trickles_ends_in_time_also_on_a_connection_that_was_used(server: Server) -> None:
    reader, writer = await server.talk(GET + b"\r\n")
    await reader.readuntil(b"\r\n\r\n")

    async def ended() -> bool:
        writer.write(b"x")
        return not server.bounds.count_by_address

    await wait_until(ended, every=0.05)
    writer.close()


async def test_an_answer_that_nobody_reads_is_given_up(server: Server) -> None:
    _, writer = await server.talk(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def begun() -> bool:
        return bool(server.bounds.count_by_address)

    async def ended() -> bool:
        return not server.bounds.count_by_address

    await wait_until(begun)
    await wait_until(ended)
    writer.close()


async def test_trailers_are_no_headers(server: Server) -> None:
    raw = (
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\nauthorization: "
        b"Bearer x\r\n\r\n"
    )
    assert (await server.answer(raw)).endswith(b"3")


async def test_what_is_no_http_is_refused_with_a_problem_document(server: Server) -> None:
    for raw in (
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
        b"NOPE\r\n\r\n",
    ):
        _is_refused(await server.answer(raw), 400)
    await server.others_are_served()


async def test_connections_are_bounded_for_each_address_and_in_all() -> None:
    async with served(ConnectionLimits(max_connections=8, max_per_address=5)) as server:
        await server.others_are_served()
        held = [await server.talk(GET) for _ in range(4)]
        for _ in range(3):
            _is_refused(await server.answer(GET + b"\r\n"), 429)
        await server.others_are_served()
        for _, writer in held:
            writer.close()
        server.bounds.exempt_networks = (ip_network("127.0.0.0/8"),)
        held = [await server.talk(GET) for _ in range(7)]
        _is_refused(await server.answer(GET + b"\r\n"), 503)
        await server.others_are_served()
        for _, writer in held:
            writer.close()
    assert not server.bounds.count_by_address


POST = b"POST /body HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"f" * 20 + b"\r\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"5\nhello\n0\n\n", 400),
        (CHUNKED + b"5\r\nhelloXX0\r\n\r\n", 400),
        (CHUNKED + b"5;" + b"x" * 1_000_000 + b"\r\nhello\r\n0\r\n\r\n", 431),
        (CHUNKED + b"0\r\n" + b"x-trailer: " + b"x" * 300_000, 431),
        (POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (
            POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
            400,
        ),
        (POST + b"content-length: 0\r\ncontent-length: 5\r\n\r\nhello", 400),
        (b"CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\n\r\nhello", 405),
    ],
    ids=[
        "negative",
        "overflow",
        "bare line feeds",
        "no end of a chunk",
        "extension",
        "trailer",
        "coding",
        "two lengths",
        "lengths",
        "connect",
    ],
)
async def test_a_body_that_is_not_sound_is_refused_with_a_problem_document(
    server: Server, raw: bytes, status: int
) -> None:
    reader, writer = await server.talk(raw[:40])
    await server.others_are_served()
    writer.write(raw[40:])
    answer = await asyncio.wait_for(reader.read(), 10)
    _is_refused(answer, status)
    assert answer.count(b"HTTP/1.1 ") == 1
    writer.close()
    await server.others_are_served()


@pytest.mark.parametrize("pieces", [1, 3])
async def test_an_offer_of_another_protocol_is_ignored_and_takes_neither_the_body_nor_the_next_request(
    server: Server, pieces: int
) -> None:
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n"
    raw = (
        POST
        + offer
        + b"content-length: 5\r\n\r\nhello"
        + GET
        + offer
        + b"\r\n"
        + POST
        + b"connection: close\r\n"
        + offer
    )
    raw += b"transfer-encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\n\r\n"
    reader, writer = await server.talk(b"")
    for number in range(pieces):
        writer.write(raw[number * len(raw) // pieces : (number + 1) * len(raw) // pieces])
        await server.others_are_served()
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.count(b"HTTP/1.1 200 ") == 3 and b"hello" in answer and answer.endswith(b"world"), answer
    writer.close()


async def test_white_space_after_a_value_is_no_part_of_it(server: Server) -> None:
    assert (await server.answer(b"GET /host HTTP/1.1\r\nhost: shop \t \r\nconnection: close \r\n\r\n")).endswith(
        b"\r\n\r\nshop"
    )


@pytest.mark.parametrize(
    ("target", "host"),
    [(b"http://other:81/host", b"other:81"), (b"http://[::1]/host", b"[::1]"), (b"/host?http://other/", b"x")],
)
async def test_the_host_that_a_url_names_counts_before_the_header(server: Server, target: bytes, host: bytes) -> None:
    raw = b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert (await server.answer(raw)).endswith(b"\r\n\r\n" + host)


async def test_a_client_that_sent_more_and_left_is_gone_for_what_it_asked_before(server: Server) -> None:
    _, writer = await server.talk(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")

    async def live() -> bool:
        return bool(LIVE)

    async def left() -> bool:
        return not LIVE

    await wait_until(live)
    writer.write(GET + b"\r\n")
    await writer.drain()
    await server.others_are_served()
    writer.transport.abort()
    await wait_until(left)


async def test_requests_that_wait_on_one_connection_are_bounded(server: Server) -> None:
    _, writer = await server.talk(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")

    async def left() -> bool:
        return not LIVE and not server.bounds.count_by_address.keys() - {"127.0.0.1"}

    writer.write((GET + b"\r\n") * 1000)
    await wait_until(left)
    writer.close()
    few = await server.answer((GET + b"\r\n") * 20 + GET + b"connection: close\r\n\r\n")
    assert few.count(b"HTTP/1.1 200 ") == 21
