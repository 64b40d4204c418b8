"""Step 3 of the journey: one address, and only through it."""

from collections.abc import AsyncIterator

import pytest

from tests.journey.early_shop import CREDENTIAL, EarlyShop, MailInTheRequest, early_shop, start_behind_gateway


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EarlyShop]:
    async with early_shop(tmp_path_factory.mktemp("step3")) as shop:
        await start_behind_gateway(shop, "step3_gateway/inside.py", "orders")
        yield shop


class TestBehindTheGateway(MailInTheRequest):
    async def test_direct_calls_are_refused(self, shop: EarlyShop) -> None:
        stock = await shop.stock()
        for name, path in (("users", "/users"), ("products", "/products/MUG/take"), ("orders", "/orders")):
            for headers in ({}, {"x-internal-credential": "guessed"}, {"x-internal-credential": ""}):
                answer = await shop.client.post(
                    shop.urls[f"inside {name}"] + path, json={"quantity": 1}, headers=headers
                )
                assert answer.status_code == 401, name
        assert await shop.stock() == stock
        inside = shop.urls["inside products"] + "/products/MUG"
        assert (await shop.client.get(inside, headers={"x-internal-credential": CREDENTIAL})).status_code == 200

    @pytest.mark.parametrize(
        "path", ["/products/MUG/take", "/products/MUG%2Ftake", "/products/MUG/give-back", "/users/1", "/docs", "/jobs"]
    )
    async def test_what_the_gateway_does_not_list_can_not_be_reached(self, shop: EarlyShop, path: str) -> None:
        stock = await shop.stock()
        for method in ("GET", "POST"):
            answer = await shop.client.request(method, shop.urls["products"] + path, json={"quantity": 1})
            assert answer.status_code == 404, answer.text
        assert await shop.stock() == stock

    async def test_how_often_somebody_may_ask_is_said_in_one_place(self, shop: EarlyShop) -> None:
        strict = await shop.start("step3_gateway/gateway.py", name="strict gateway", PER_MINUTE="2")
        answers = [await shop.client.get(f"{strict}/products/MUG") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].headers["retry-after"] == "60"

    async def test_every_call_still_waits_for_every_other(self, shop: EarlyShop) -> None:
        customer, stock = await shop.customer(), await shop.stock()
        await shop.kill("users")
        answer = await shop.place(customer)
        assert (answer.status_code, answer.json()["detail"]) == (503, "users can't be reached: ConnectError")
        assert await shop.stock() == stock, "everybody can still look"
        await shop.start("step3_gateway/inside.py", "users")
        assert (await shop.place(customer)).status_code == 201
