"""A reservation is in the stock and on the product's page at once, though the page was in the cache."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from caravan.runtime import Backends
from tests.support.scenario import ShopScenario, run_whole_shop
from tests.support.shop import wait_until


@pytest.fixture
async def scenario(backends: Backends, tmp_path: Path) -> AsyncIterator[ShopScenario]:
    async with run_whole_shop(backends, tmp_path / "shop") as running:
        yield running


async def test_a_reservation_is_seen_within_a_second(scenario: ShopScenario) -> None:
    program = scenario.program
    who, sku = await program.register_customer(), await program.create_product(stock=5)

    async def read_json(path: str) -> dict[str, Any]:
        return dict((await program.client.get(path)).json())

    async def is_in_stock() -> bool:
        return bool((await read_json(f"/v1/stock/{sku}"))["available"] == 4)

    async def is_on_page() -> bool:
        return bool((await read_json(f"/v1/products/{sku}"))["availability"]["available"] == 4)

    for _ in range(2):  # the second one is from the cache
        assert (await read_json(f"/v1/products/{sku}"))["availability"]["available"] == 5
    assert (await program.place_order(who, sku)).status_code == 202
    await wait_until(is_in_stock, seconds=20, every=0.01)
    reserved_at = time.perf_counter()
    await wait_until(is_on_page, seconds=20, every=0.01)
    assert time.perf_counter() - reserved_at <= 1.0
