"""A peer that goes away while it is asked is an error of the connection, whatever moment it chooses."""

from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from caravan.http_client import HttpClient

URL = "http://127.0.0.1:9/"


def _fail_on(monkeypatch: pytest.MonkeyPatch, socket: Any) -> None:
    """The library asks a socket for its peer's address as soon as it is connected."""

    async def ask(*_: object) -> httpx2.Response:
        return httpx2.Response(200, text=str(socket.getpeername()))

    monkeypatch.setattr("httpx2.AsyncHTTPTransport.handle_async_request", ask)


async def test_a_connection_that_is_reset_as_soon_as_it_is_made_was_none(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_on(monkeypatch, None)
    async with HttpClient() as client:
        with pytest.raises(httpx2.ConnectError, match="reset as soon as it was made"):
            await client.get(URL)
        with pytest.raises(httpx2.ConnectError):
            async with client.stream("GET", URL):
                pass


async def test_a_mistake_of_ours_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_on(monkeypatch, SimpleNamespace())
    async with HttpClient() as client:
        with pytest.raises(AttributeError):
            await client.get(URL)
