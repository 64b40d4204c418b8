"""The console over real services, and sessions of users of every role."""

from collections.abc import AsyncIterator

import pytest

from caravan.runtime import Backends
from tests.services.gateway.console.console_case import ConsoleCase
from tests.support.shop import run_services


@pytest.fixture(scope="module")
async def console(backends: Backends) -> AsyncIterator[ConsoleCase]:
    async with run_services(backends, "gateway", "orders", "catalog", "inventory") as shop:
        yield ConsoleCase(shop)
