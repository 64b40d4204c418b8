"""Fixtures of the hostile suite."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.hostile.apart import Apart, apart
from tests.hostile.management_api import Hostile
from tests.hostile.raw_requests import SESSION_SECONDS


@pytest.fixture
async def hostile() -> AsyncIterator[Hostile]:
    server = Hostile()
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", server)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture(scope="package")
async def shop() -> AsyncIterator[Apart]:
    # Where the tests' own pace lets anybody through, the gateway's bounds of each address count alone.
    async with apart(GATEWAY_SESSION_SECONDS=str(SESSION_SECONDS)) as found:
        yield found
