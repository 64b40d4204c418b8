"""Listening: sockets, a server that ends when it is told to, and bounds that fit who may connect."""

import asyncio
import os
import resource
import signal
import time
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest

from caravan.runtime.connection_limits import GATEWAY_HEAD_BYTES, MAX_HEAD_BYTES, ConnectionLimits
from caravan.runtime.server import (
    ListenError,
    create_server,
    format_url,
    handle_signals,
    limit_connections,
    limit_internal_connections,
    open_listener,
    serve_apart,
)
from caravan.settings import Settings


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def test_a_listener_has_a_url_and_a_taken_address_is_an_error_that_says_what_to_do() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert format_url(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(ListenError, match=rf"127.0.0.1:{port}: .*CARAVAN_PORT"):
            open_listener("127.0.0.1", port)


async def test_an_application_apart_is_served_until_the_block_ends() -> None:
    listener = open_listener("127.0.0.1", 0)
    url = format_url(listener)
    async with httpx2.AsyncClient(trust_env=False) as client:
        async with serve_apart(app, listener, Settings(drain_seconds=1), ConnectionLimits(10)):
            response = await client.get(f"{url}/path")
            assert (response.text, "server" in response.headers) == ("/path", False)
        with pytest.raises(httpx2.ConnectError):
            await client.get(url)


async def test_without_a_port_there_is_nothing_apart() -> None:
    before = asyncio.all_tasks()
    async with serve_apart(app, None, Settings(), ConnectionLimits(10)):
        assert asyncio.all_tasks() == before


async def measure_stop() -> float:
    server = create_server(app, Settings(drain_seconds=1), ConnectionLimits(10))
    serving = asyncio.create_task(server.serve(sockets=[open_listener("127.0.0.1", 0)]))
    async with asyncio.timeout(5):
        while not server.started:
            await asyncio.sleep(0)
    started_at = time.monotonic()
    server.stop()
    await serving
    return time.monotonic() - started_at


async def test_stopping_wakes_it_at_once() -> None:
    """It wakes once a second by itself. The best of some: the machine may be busy."""
    assert min([await measure_stop() for _ in range(3)]) < 0.5


async def test_a_server_leaves_signals_to_the_process() -> None:
    received = asyncio.Event()
    handle_signals(received.set)
    server = create_server(app, Settings(drain_seconds=1), ConnectionLimits(10))
    try:
        with server.capture_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(5):
                await received.wait()
        assert not server.should_exit
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)


def test_strangers_have_a_part_of_the_connections_each_and_a_gateway_may_have_all() -> None:
    settings = Settings(max_connections=500, max_connections_per_address=50)
    proxies = (ip_network("10.0.0.0/8"),)
    at_gateway = limit_connections(settings, proxies)
    assert (at_gateway.max_connections, at_gateway.max_per_address) == (500, 50)
    assert (at_gateway.exempt_networks, at_gateway.max_head_bytes) == (proxies, MAX_HEAD_BYTES)
    for behind in (limit_connections(settings, None), limit_internal_connections(settings)):
        assert (behind.max_connections, behind.max_per_address) == (500, None)
        assert behind.max_head_bytes == MAX_HEAD_BYTES + GATEWAY_HEAD_BYTES, "a gateway adds to a head"


def test_no_more_connections_are_taken_than_the_system_has_files_for(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    settings = Settings(max_connections=5000, max_connections_per_address=1000)
    assert limit_connections(settings, ()).max_connections == 512
    assert raised == [(1024, 1024)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 300))
    limits = limit_connections(settings, ())
    assert (limits.max_connections, limits.max_per_address) == (64, 64)
