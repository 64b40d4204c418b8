"""The read side's rows and how far it has read are one commit."""

import asyncio

import pytest

from caravan import failpoint
from caravan.clock import new_id
from tests.services.orders.neighbours import create_order
from tests.support.shop import Shop, wait_until


async def test_a_batch_that_failed_is_read_again_from_where_it_began(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_failed = asyncio.Event()

    def fail_once(name: str) -> None:
        if name == "projection.mid_batch" and not has_failed.is_set():
            has_failed.set()
            raise ConnectionResetError("in the middle of a batch")

    monkeypatch.setattr(failpoint, "hit", fail_once)
    user = new_id()
    order_id = await create_order(shop, user)

    async def is_shown() -> bool:
        answer = await shop.client.get(f"/v1/orders/{order_id}", headers=shop.issue_headers("customer", user))
        return answer.status_code == 200

    await wait_until(is_shown, seconds=15)
    assert has_failed.is_set()
