"""A link of the proof: what goes through its proxy arrives whole, or is lost as the strike says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.faults.prove.proxy import SLOW_SECONDS, Proxy
from tests.support.backends.ready import free_ports
from tests.support.shop import wait_until

RESET_SECONDS = 5


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()

    port, server_port = free_ports(2)
    server = await asyncio.start_server(echo, "127.0.0.1", server_port)
    made = Proxy(lambda: ("127.0.0.1", server_port), port)
    await made.start()
    yield made
    await made.stop()
    server.close()


async def _ask(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"0123456789" * 3)
    return reader, writer


@pytest.mark.parametrize("mode", ["open", "slow", "sliced"])
async def test_what_goes_through_a_link_arrives_whole(proxy: Proxy, mode: str) -> None:
    proxy.mode = mode
    began = asyncio.get_running_loop().time()
    reader, writer = await _ask(proxy)
    assert await reader.readexactly(30) == b"0123456789" * 3
    assert mode == "open" or proxy.seen[mode] > 0
    if mode == "slow":
        assert asyncio.get_running_loop().time() - began >= 2 * SLOW_SECONDS
    writer.close()


async def test_a_one_way_link_loses_answers_and_a_cut_one_its_connections(proxy: Proxy) -> None:
    proxy.mode = "one-way"
    reader, _ = await _ask(proxy)

    async def is_lost() -> bool:
        return proxy.seen["one-way"] == 30

    await wait_until(is_lost, seconds=RESET_SECONDS)
    assert proxy.cut() == 1
    with pytest.raises(OSError):  # noqa: PT011
        await asyncio.wait_for(reader.readexactly(1), RESET_SECONDS)


async def test_a_refused_link_takes_no_connection(proxy: Proxy) -> None:
    proxy.mode = "refused"
    reader, _ = await _ask(proxy)
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), RESET_SECONDS)
    assert proxy.seen["refused"] >= 1
