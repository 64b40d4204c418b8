"""What one connection may cost: heads, time and number are bounded, each refusal says why, and others are served
meanwhile.
"""

import asyncio
from ipaddress import ip_network

import pytest

from caravan.runtime.connection_limits import ConnectionLimits
from tests.support.raw_server import GET, Server, check_refused, serve_app
from tests.support.shop import wait_until


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
            check_refused(answer, 431)
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
            check_refused(answer, status)  # type: ignore[arg-type]
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
        check_refused(await server.answer(raw), 400)
    await server.others_are_served()


async def test_connections_are_bounded_for_each_address_and_in_all() -> None:
    async with serve_app(ConnectionLimits(max_connections=8, max_per_address=5)) as server:
        await server.others_are_served()
        held = [await server.talk(GET) for _ in range(4)]
        for _ in range(3):
            check_refused(await server.answer(GET + b"\r\n"), 429)
        await server.others_are_served()
        for _, writer in held:
            writer.close()
        server.bounds.exempt_networks = (ip_network("127.0.0.0/8"),)
        held = [await server.talk(GET) for _ in range(7)]
        check_refused(await server.answer(GET + b"\r\n"), 503)
        await server.others_are_served()
        for _, writer in held:
            writer.close()
    assert not server.bounds.count_by_address
