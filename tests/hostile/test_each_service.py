"""Clients that mean harm at a shop whose services have a process each: what they are told, and that the others are
served meanwhile.
"""

import asyncio
import contextlib

import pytest

from tests.hostile.apart import Apart, Talk
from tests.hostile.raw_requests import build_get, build_post, count_statuses


async def _drip(shop: Apart, head: bytes, piece: bytes, *, seconds: float = 15) -> bytes:
    """Sends a piece every half second until the server has enough of it."""
    reader, writer = await shop.talk(head)
    reading = asyncio.ensure_future(reader.read())
    try:
        async with asyncio.timeout(seconds):
            while not reading.done():
                await asyncio.wait({reading}, timeout=0.5)
                writer.write(piece)
        return reading.result()
    except (ConnectionError, TimeoutError):
        return b"cut off"
    finally:
        reading.cancel()
        writer.close()


async def test_slow_clients_are_told_so_and_take_a_service_from_nobody(shop: Apart) -> None:
    """Bodies that stall, drip or never come in all shapes; heads that stall or drip; answers that nobody reads."""
    paths = ("/v1/orders", "/v1/users", "/v1/auth/token", f"/v1/stock/{shop.sku}/movements", "/v1/products")
    stalls = [
        b"content-length: 50\r\n\r\n{",
        b"transfer-encoding: chunked\r\n\r\n5\r\n{",
        b"expect: 100-continue\r\ncontent-length: 9\r\n\r\n",
    ]
    unread: list[Talk] = []
    async with shop.others_served() as seen:
        bodies = [
            shop.answer(build_post(path, shop.who) + stall) for path in paths for stall in stalls for _ in range(4)
        ]
        heads = [shop.answer(build_get("/v1/products")[:size]) for size in (1, 20, 40) for _ in range(15)]
        dripped = [_drip(shop, build_post(path, shop.who) + b"content-length: 500\r\n\r\n", b" ") for path in paths]
        dripped += [_drip(shop, build_get("/v1/products"), b"x: y\r\n") for _ in range(5)]
        for _ in range(20):
            reader, writer = await shop.talk((build_get("/openapi.json") + b"\r\n") * 8)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            unread.append((reader, writer))
        answers = await asyncio.gather(*bodies, *heads, *dripped)
        assert len(seen) > 50
    assert count_statuses(answers) == {408: len(answers)}, count_statuses(answers)
    for _, writer in unread:
        writer.close()


@pytest.mark.parametrize("count", [5, 50])
async def test_clients_that_leave_amid_their_requests_take_a_service_from_nobody(shop: Apart, count: int) -> None:
    async with shop.others_served():
        for _ in range(count):
            for path in ("/v1/orders", "/v1/auth/token"):
                _, writer = await shop.talk(build_post(path, shop.who) + b"content-length: 50\r\n\r\n{")
                writer.transport.abort()
            for path in ("/v1/products?limit=100", f"/v1/stock/{shop.sku}", "/v1/users/me"):
                _, writer = await shop.talk(build_get(path) + b"\r\n")
                await asyncio.sleep(0)
                writer.transport.abort()


async def test_heads_and_bodies_over_their_bounds_are_refused(shop: Apart) -> None:
    """Whether they say their length, tell a lie about it, or say none."""

    async def flood(head: bytes, piece: bytes, pieces: int) -> bytes:
        reader, writer = await shop.talk(head)
        reading = asyncio.ensure_future(reader.read())
        with contextlib.suppress(ConnectionError):
            for _ in range(pieces):
                writer.write(piece)
                await asyncio.wait_for(writer.drain(), 10)
                if reading.done():
                    break
        try:
            return await asyncio.wait_for(reading, 10)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    large = b"x" * 400_000
    users = build_post("/v1/users", {})
    chunked = users + b"transfer-encoding: chunked\r\n\r\n"
    async with shop.others_served():
        answers = await asyncio.gather(
            flood(build_get("/v1/products") + b"x-large: ", large, 100),
            flood(build_get("/v1/products"), b"x: %b\r\n" % (b"y" * 1000), 60_000),
            flood(b"GET /v1/products?search=", large, 100),
            flood(users + b"content-length: 2000000\r\n\r\n", large, 5),
            flood(users + b"content-length: 999999999999999999\r\n\r\n", large, 100),
            flood(chunked, b"%x\r\n%b\r\n" % (len(large), large), 100),
            flood(chunked + b"ffffffff\r\n", large, 100),
            flood(chunked + b"1;", large, 100),
            flood(chunked + b"0\r\nx-trailer: ", large, 100),
        )
    statuses = [list(count_statuses([answer])) for answer in answers]
    # A client that still sends may find the connection reset before it reads why.
    assert all(
        found in ([], [expected]) for found, expected in zip(statuses, [431] * 3 + [413] * 4 + [431] * 2, strict=True)
    ), statuses
    assert [413] in statuses
