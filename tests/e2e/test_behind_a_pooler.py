"""The whole shop behind a PgBouncer by transaction: orders reach their end, and of two processes either goes on when
the
other is killed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from caravan.runtime import Backends
from tests.support.backends import Unavailable
from tests.support.backends.pgbouncer import pgbouncer, program
from tests.support.program import Program, launch_caravan
from tests.support.shop import wait_until

pytestmark = pytest.mark.slow
ORDERS, AT_ONCE = 200, 20


@asynccontextmanager
async def two_shops(url: str, servers: Backends, data: Path) -> AsyncIterator[list[Program]]:
    """All services in each of two processes on the same servers."""
    settings = {
        "CARAVAN_DATABASE_URL": url,
        "CARAVAN_REDIS_URL": servers.redis_url,
        "CARAVAN_SECRET": servers.secret,
        "CARAVAN_PUBLIC_URL": "http://shop.test",  # tokens of one are good at the other
    }
    shops: list[Program] = []
    try:
        for name in ("one", "two"):
            process, address = await launch_caravan(["run", "all"], settings, data, name)
            shops.append(Program(address, data, [process], secret=servers.secret))
        yield shops
    finally:
        await asyncio.gather(*(shop.stop() for shop in shops))


async def test_orders_are_delivered_by_two_processes_and_then_by_the_one_that_is_left(
    backends: Backends, tmp_path: Path
) -> None:
    try:
        program()
    except Unavailable as reason:
        pytest.skip(str(reason))
    with pgbouncer(backends.database_url) as pooler:
        async with two_shops(pooler.url, backends, tmp_path) as shops:
            first, second = shops
            who, sku = await first.register_customer(), await first.create_product(stock=ORDERS * 2)
            turn = asyncio.Semaphore(AT_ONCE)

            async def order(shop: Program) -> str:
                async with turn:
                    placed = await shop.place_order(who, sku)
                    assert placed.status_code == 202, placed.text
                    return str(placed.json()["id"])

            placed = await asyncio.gather(*(order(shops[number % 2]) for number in range(ORDERS)))
            for order_id in placed:
                await second.wait_for_status(who, order_id, "delivered", seconds=60)
            assert (await second.get_stock(sku))["on_hand"] == ORDERS, "each was shipped once"
            complaints = [
                line for name in ("one", "two") for line in (tmp_path / f"{name}.log").read_text().splitlines()
            ]
            assert not [line for line in complaints if "error" in line.lower()]

            first.kill()
            last = await order(second)
            await second.wait_for_status(who, last, "delivered", seconds=15)

            async def listed() -> bool:
                newest = (await second.client.get("/v1/orders", headers=who)).json()["items"][0]
                return bool(newest["id"] == last and newest["status"] == "delivered")

            await wait_until(listed)
