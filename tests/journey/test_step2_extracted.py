"""Step 2 of the journey: the tests of step 1 are green, at three addresses; and what is new hurts, too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.journey.early_shop import EarlyShop, MailInTheRequest, early_shop
from tests.support.shop import wait_until


@asynccontextmanager
async def three_services(folder: Path, **settings: str) -> AsyncIterator[EarlyShop]:
    async with early_shop(folder, **settings) as shop:
        users, products = await asyncio.gather(
            shop.start("step2_extracted/users.py"), shop.start("step2_extracted/products.py")
        )
        orders = await shop.start("step2_extracted/orders.py", USERS_URL=users, PRODUCTS_URL=products)
        shop.urls |= {"users": users, "products": products, "orders": orders}
        yield shop


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EarlyShop]:
    async with three_services(tmp_path_factory.mktemp("step2"), CARD_SECONDS="0.3") as shop:
        yield shop


class TestThreeServices(MailInTheRequest):
    async def test_a_client_has_to_know_three_addresses(self, shop: EarlyShop) -> None:
        assert len({shop.urls[name] for name in ("users", "products", "orders")}) == 3
        assert (await shop.client.get(f"{shop.urls['orders']}/products/MUG")).status_code == 404
        assert (
            await shop.client.post(f"{shop.urls['products']}/users", json={"email": "ada@example.com"})
        ).status_code == 404

    async def test_anybody_can_empty_the_shelf_without_an_order(self, shop: EarlyShop) -> None:
        stock = await shop.stock()
        taken = await shop.client.post(f"{shop.urls['products']}/products/MUG/take", json={"quantity": 3})
        assert taken.status_code == 200
        assert await shop.stock() == stock - 3

    async def test_orders_that_die_while_the_card_is_charged_leave_stock_taken_that_no_order_has(
        self, shop: EarlyShop
    ) -> None:
        customer, stock, orders = await shop.customer(), await shop.stock(), await shop.orders()
        ordering = asyncio.create_task(shop.place(customer))

        async def taken() -> bool:
            return await shop.stock() == stock - 2

        await wait_until(taken)
        await shop.kill("orders")
        with pytest.raises(httpx2.TransportError):
            await ordering
        await shop.start("step2_extracted/orders.py", USERS_URL=shop.urls["users"], PRODUCTS_URL=shop.urls["products"])
        assert await shop.orders() == orders
        assert await shop.stock() == stock - 2, "nobody gives it back"
