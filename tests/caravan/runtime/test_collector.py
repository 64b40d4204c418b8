"""A collector is exported to from the start, or from when it is there."""

import asyncio
import socket
from typing import Any

import pytest

from caravan.runtime.collector import export_to_collector, is_collector_there
from caravan.settings import Settings
from caravan.telemetry import is_recording
from observability.rehearsal.post_server import PostServer
from tests.support.shop import wait_until


@pytest.mark.parametrize(
    ("url", "is_optional", "is_there"),
    [
        ("http://localhost:4318", True, True),
        ("http://collector.invalid:4318", True, False),
        ("http://collector.invalid:4318", False, True),
        ("", True, False),
    ],
)
async def test_a_collector_that_is_optional_and_not_there_is_left_out(
    url: str, is_optional: bool, is_there: bool
) -> None:
    assert await is_collector_there(Settings(otlp_endpoint=url, otlp_optional=is_optional)) == is_there


async def test_one_that_comes_later_is_exported_to_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = 0
    is_started = False

    async def find_address(*_: Any) -> list[Any]:
        nonlocal searches
        searches += 1
        if not is_started:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return []

    async def has_searched_twice() -> bool:
        return searches > 2

    async def is_exporting() -> bool:
        return is_recording()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", find_address)
    with PostServer(lambda path, body: 200) as server:
        kernel_settings = Settings(otlp_endpoint=server.url, otlp_optional=True)
        async with export_to_collector(kernel_settings, "caravan-orders", every=0.01):
            await wait_until(has_searched_twice)
            assert not is_recording()
            is_started = True
            await wait_until(is_exporting)
        assert not is_recording()


async def test_nobody_is_looked_for_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    before = asyncio.all_tasks()
    kernel_settings = Settings(otlp_endpoint="http://collector.invalid:4318", otlp_optional=True)
    async with export_to_collector(kernel_settings, "caravan-orders"):
        assert len(asyncio.all_tasks()) == len(before) + 1
    assert asyncio.all_tasks() == before
