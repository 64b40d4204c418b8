from collections.abc import AsyncIterator

import pytest

from caravan.runtime import connections
from caravan.runtime.connections import ConnectionLimits
from tests.hostile.raw_server import Server, serve_app


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """An application behind the connections' bounds, with short times."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.5)
    async with serve_app(ConnectionLimits(max_connections=1000, max_per_address=1000)) as made:
        yield made
