"""The service that has nothing but jobs, once for each module of tests."""

from collections.abc import AsyncIterator

import pytest

from caravan.runtime import Backends
from tests.support.job_shop import handled_data, run_demo
from tests.support.shop import Shop


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    handled_data.clear()
    async with run_demo(backends) as shop:
        yield shop
