"""A message of an order that a consumer gave up is in the order's timeline until it is redriven."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from caravan.errors import MessageRejected
from caravan.runtime import Backends
from services.recommendations import projections
from tests.support.scenario import ShopScenario, run_whole_shop
from tests.support.shop import wait_until

CONSUMER = "recommendations.order-created"


@pytest.fixture
async def scenario(backends: Backends, tmp_path: Any) -> AsyncIterator[ShopScenario]:
    async with run_whole_shop(backends, tmp_path / "shop") as running:
        yield running


async def test_a_message_that_was_given_up_is_shown_until_it_is_redriven(
    scenario: ShopScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = scenario.program
    owner, staff = await program.register_customer(), await program.authorize_operator()
    sku = await program.create_product(stock=5)

    async def read_timeline(headers: dict[str, str]) -> dict[str, Any]:
        response = await program.client.get(f"/v1/orders/{order_id}/timeline", headers=headers)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def list_dead_letters() -> list[dict[str, Any]]:
        return [item for item in (await read_timeline(staff))["items"] if item["source"] == "dead_letters"]

    async def reject(*_: Any) -> None:
        raise MessageRejected("no shelf for it; token=tok_secret")

    with monkeypatch.context() as patch:
        patch.setattr(projections, "project_created", reject)
        order_id = (await program.place_order(owner, sku)).json()["id"]
        [dead] = await wait_until(list_dead_letters, seconds=30, every=0.1)
    assert (dead["kind"], dead["state"]) == ("orders.OrderCreated", {"state": "dead", "redrivable": True})
    assert dead["details"]["consumer"] == CONSUMER
    assert dead["details"]["attempts"] == 1
    assert "no shelf for it" in dead["details"]["reason"]
    assert "tok_secret" not in dead["details"]["reason"]
    items = (await read_timeline(staff))["items"]
    message = next(item for item in items if item["id"] == dead["cause"])
    assert items.index(message) < items.index(dead)
    assert (message["source"], message["cause"]) == ("topics", "event:1")
    assert CONSUMER not in {each["consumer"] for each in message["deliveries"]}
    assert not any(item["source"] == "dead_letters" for item in (await read_timeline(owner))["items"])

    redriven = await program.client.post("/v1/failures/redrive", json={"ids": [dead["id"]]}, headers=staff)
    assert (redriven.status_code, redriven.json()["done"]) == (200, 1), redriven.text

    async def is_handled() -> bool:
        items = (await read_timeline(staff))["items"]
        consumers = {each["consumer"] for item in items for each in item["deliveries"]}
        return CONSUMER in consumers and not any(item["source"] == "dead_letters" for item in items)

    await wait_until(is_handled, seconds=30, every=0.1)
    assert (await read_timeline(staff))["partial"] == []
