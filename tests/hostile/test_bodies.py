"""Bodies, hosts and connections that are not sound, and clients that leave."""

import asyncio

import pytest

from tests.support.raw_server import CHUNKED, GET, LIVE, POST, Server, check_refused
from tests.support.shop import wait_until


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
    check_refused(answer, status)
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
