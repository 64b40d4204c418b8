"""Step 1 of the journey does what its page says, also what hurts."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.journey.early_shop import EarlyShop, MailInTheRequest, early_shop
from tests.support.shop import wait_until


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EarlyShop]:
    async with early_shop(tmp_path_factory.mktemp("step1"), CARD_SECONDS="0.2") as shop:
        url = await shop.start("step1_monolith/shop.py")
        shop.urls |= {"users": url, "products": url, "orders": url}
        yield shop


class TestMonolith(MailInTheRequest):
    async def test_one_slow_card_makes_the_next_customer_wait(self, shop: EarlyShop) -> None:
        customer = await shop.customer()
        began = time.monotonic()
        answers = await asyncio.gather(shop.place(customer), shop.place(customer))
        assert [answer.status_code for answer in answers] == [201, 201]
        assert time.monotonic() - began >= 0.4

    async def test_a_shop_that_dies_while_the_card_is_charged_has_taken_nothing_from_the_shelf(
        self, shop: EarlyShop
    ) -> None:
        customer, stock = await shop.customer(), await shop.stock()
        ordering = asyncio.create_task(shop.place(customer))

        async def charging() -> bool:
            try:
                sqlite3.connect(shop.folder / "monolith.sqlite", timeout=0, isolation_level=None).execute(
                    "BEGIN IMMEDIATE"
                ).connection.close()
            except sqlite3.OperationalError:
                return True  # locked
            return False

        await wait_until(charging, every=0.01)
        await shop.kill("shop")
        with pytest.raises(httpx2.TransportError):
            await ordering
        await shop.start("step1_monolith/shop.py")
        assert await shop.stock() == stock
