"""WebSockets at the listener: on one path only, and bounded in whatever they could cost."""

import asyncio
import random
import struct
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from caravan.runtime import websocket
from caravan.runtime.connection_limits import ConnectionLimits
from caravan.runtime.server import create_server, format_url, open_listener
from caravan.settings import Settings
from tests.support.raw_server import ENDS, SOCKET_PATH, Server, app, check_refused, serve_app
from tests.support.shop import wait_until

OFFER = (
    b"host: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
HANDSHAKE = b"GET /socket HTTP/1.1\r\n" + OFFER + b"\r\n"
TEXT, CONTINUATION, BINARY, CLOSE, PING = 1, 0, 2, 8, 9


def _frame(opcode: int, payload: bytes = b"", *, is_last: bool = True, length: int | None = None) -> bytes:
    """As a client sends it, masked with zeros. `length`: what its head claims."""
    claimed = len(payload) if length is None else length
    head = bytes([opcode | (0x80 if is_last else 0)])
    if claimed < 126:
        head += bytes([0x80 | claimed])
    elif claimed < 65536:
        head += bytes([0x80 | 126]) + struct.pack("!H", claimed)
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", claimed)
    return head + b"\0\0\0\0" + payload


def _connect(server: Server, path: str = SOCKET_PATH) -> connect:
    return connect(f"ws://{server.host}:{server.port}{path}", proxy=None, close_timeout=2, ping_interval=None)


async def _open_raw(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await server.talk(HANDSHAKE)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert b"extensions" not in head.lower(), "nothing is compressed"
    return reader, writer


async def _read_close(reader: asyncio.StreamReader) -> int:
    """The code of the close frame, which is the last that comes; 0 when the connection just ends."""
    received = b""
    try:
        async with asyncio.timeout(10):
            while part := await reader.read(65536):
                received = (received + part)[-200:]
    except ConnectionError:
        return 0
    at = received.rfind(b"\x88")
    return struct.unpack("!H", received[at + 2 : at + 4])[0] if at >= 0 else 0


async def _is_free(server: Server) -> bool:
    return not server.bounds.count_by_address


@pytest.fixture
async def socket(server: Server) -> AsyncIterator[ClientConnection]:
    async with _connect(server) as opened:
        yield opened


async def test_messages_go_both_ways_also_in_fragments(server: Server, socket: ClientConnection) -> None:
    await socket.send("hello")
    assert await socket.recv() == "hello"
    await socket.send(["he", "", "llo"])
    assert await socket.recv() == "hello"
    await (await socket.ping())
    await socket.close()
    assert socket.close_code == 1000
    await wait_until(lambda: _is_free(server))


@pytest.mark.parametrize("path", [b"/", b"/socket/", b"/socket2", b"http://x/socket"])
async def test_elsewhere_the_offer_of_a_websocket_is_ignored(server: Server, path: bytes) -> None:
    answer = await server.answer(b"GET " + path + b" HTTP/1.1\r\nconnection: close\r\n" + OFFER + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 "), answer


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (HANDSHAKE.replace(b"/socket", b"/socket?token=secret"), 400),
        (HANDSHAKE.replace(b"version: 13", b"version: 8"), 400),
        (HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short"), 400),
        (
            HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==\r\n", b"dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-key: x\r\n"),
            400,
        ),
        (HANDSHAKE[:-2] + b"x-large: " + b"x" * 9000 + b"\r\n\r\n", 400),
        (HANDSHAKE[:-2] + b"x-large: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (HANDSHAKE[:-2] + b"a:\r\n" * 101 + b"\r\n", 431),
        (HANDSHAKE + _frame(TEXT, b"early"), 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n" + HANDSHAKE, 400),
    ],
    ids=[
        "query",
        "version",
        "key",
        "two keys",
        "long line",
        "long head",
        "many fields",
        "early frame",
        "behind another",
    ],
)
async def test_a_handshake_that_is_not_sound_is_refused(server: Server, raw: bytes, status: int) -> None:
    answer = await server.answer(raw)
    if b"/live" in raw:
        assert b" 101 " not in answer and answer.count(b"HTTP/1.1 ") <= 1
    else:
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert b"application/problem+json" in answer and b'"trace_id":"' in answer
    await server.others_are_served()
    await wait_until(lambda: _is_free_but_for_others(server))


async def _is_free_but_for_others(server: Server) -> bool:
    return sum(server.bounds.count_by_address.values()) <= 1


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (_frame(TEXT, b"", length=2**40), 1009),
        (_frame(TEXT, b"", length=websocket.MAX_MESSAGE_BYTES + 1), 1009),
        (_frame(TEXT, b"x" * 70_000, is_last=False) + _frame(CONTINUATION, b"x" * 70_000), 1009),
        (_frame(TEXT, b"", is_last=False) + _frame(CONTINUATION, b"", is_last=False) * 100_000, 1009),
        (_frame(TEXT, b"x" * 10) * 5000, 1008),
        (_frame(CONTINUATION, b"x"), 1002),
        (_frame(TEXT, b"x", is_last=False) + _frame(TEXT, b"y"), 1002),
        (_frame(3, b"x"), 1002),
        (_frame(PING, b"x" * 126), 1002),
        (_frame(PING, b"x", is_last=False), 1002),
        (b"\x81\x01x", 1002),
        (b"\xc1" + _frame(TEXT, b"x")[1:], 1002),
        (_frame(TEXT, b"\xff\xfe"), 1007),
        (_frame(CLOSE, b"x"), 1002),
        (_frame(CLOSE, struct.pack("!H", 999)), 1002),
        (_frame(TEXT, b"x") + _frame(CLOSE, struct.pack("!H", 1000)), 1000),
    ],
    ids=[
        "huge",
        "over the bound",
        "huge in fragments",
        "empty fragments",
        "flood",
        "nothing to continue",
        "two at once",
        "unknown",
        "long ping",
        "ping in fragments",
        "no mask",
        "compressed",
        "no text",
        "short close",
        "bad close",
        "leaves at once",
    ],
)
async def test_hostile_frames_end_their_socket_with_the_code_that_says_why(
    server: Server, raw: bytes, code: int
) -> None:
    reader, writer = await _open_raw(server)
    writer.write(raw)
    assert await _read_close(reader) == code
    writer.close()
    await server.others_are_served()
    await wait_until(lambda: _is_free_but_for_others(server))


async def test_random_bytes_end_their_socket(server: Server) -> None:
    rng = random.Random(7)
    for _ in range(60):
        reader, writer = await _open_raw(server)
        writer.write(rng.randbytes(rng.randint(1, 400)))
        writer.write_eof()
        await _read_close(reader)
        writer.close()
    await server.others_are_served()
    await wait_until(lambda: _is_free_but_for_others(server))


async def test_who_reads_nothing_is_cut_off_whatever_it_sends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.5)
    for raw in (_frame(TEXT, b"flood"), _frame(PING, b"x" * 125) * 200_000):
        reader, writer = await _open_raw(server)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(raw)
        await wait_until(lambda: _is_free_but_for_others(server))
        writer.close()
    await server.others_are_served()


async def test_who_answers_no_ping_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "PING_SECONDS", 0.1)
    monkeypatch.setattr(websocket, "PONG_SECONDS", 0.2)
    reader, writer = await _open_raw(server)
    assert await _read_close(reader) == 1011
    writer.close()
    async with _connect(server) as alive:
        await asyncio.sleep(1)
        await alive.send("still here")
        assert await alive.recv() == "still here"


async def test_websockets_are_counted_as_the_connections_that_they_are() -> None:
    async with serve_app(ConnectionLimits(max_connections=8, max_per_address=3)) as server:
        held = [await _open_raw(server) for _ in range(3)]
        check_refused(await server.answer(HANDSHAKE), 429)
        held.pop()[1].close()
        await wait_until(lambda: _has_count(server, 2))
        held.append(await _open_raw(server))
        for _, writer in held:
            writer.close()
        await wait_until(lambda: _is_free(server))


async def _has_count(server: Server, count: int) -> bool:
    return sum(server.bounds.count_by_address.values()) == count


async def test_a_connection_that_was_used_may_become_a_websocket(server: Server) -> None:
    reader, writer = await server.talk(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n1"), 10)
    await asyncio.sleep(0.7)  # longer than a head may take
    writer.write(HANDSHAKE)
    assert b" 101 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    await asyncio.sleep(0.7)
    writer.write(_frame(TEXT, b"hello"))
    assert (await asyncio.wait_for(reader.readexactly(7), 10)) == b"\x81\x05hello"
    writer.close()


async def test_a_server_that_stops_tells_the_application_and_then_the_client() -> None:
    ENDS.clear()
    server = create_server(app, Settings(drain_seconds=5), ConnectionLimits(10), websocket_path=SOCKET_PATH)
    listener = open_listener("127.0.0.1", 0)
    url = format_url(listener).replace("http", "ws") + SOCKET_PATH
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(10), connect(url, proxy=None) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        server.stop()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1012
        await serving
    assert [end["code"] for end in ENDS] == [1012]


async def test_without_a_path_there_are_no_websockets() -> None:
    server = create_server(app, Settings(drain_seconds=1), ConnectionLimits(10))
    listener = open_listener("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    with pytest.raises(InvalidStatus, match="200"):
        await connect(format_url(listener).replace("http", "ws") + SOCKET_PATH, proxy=None)
    server.stop()
    await serving
