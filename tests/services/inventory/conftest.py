"""Inventory alone in the test's process, with short live streams."""

from collections.abc import AsyncIterator

import pytest

from caravan.runtime import Backends
from tests.support.shop import Shop, run_services


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INVENTORY_STREAM_SECONDS", "0.6")
        async with run_services(backends, "inventory") as shop:
            yield shop
