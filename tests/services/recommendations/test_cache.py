"""Lists are kept, forgotten when they are no longer true, and never needed."""

from uuid import UUID

import pytest
from redis.asyncio import Redis

from caravan.clock import new_id
from services.recommendations.caches import USER_LISTS
from services.recommendations.metrics import LISTS_COMPUTED
from tests.services.recommendations.conftest import bought, on_sale, product, publish_messages, stock
from tests.support.shop import Shop, wait_until

GOODS = on_sale("MUG", "TEA", "POT")


async def ask(shop: Shop, user_id: UUID) -> tuple[str, list[str]]:
    answer = await shop.client.get("/v1/recommendations", headers=shop.issue_headers("customer", user_id))
    return answer.headers["x-cache"], [item["sku"] for item in answer.json()["items"]]


def computed() -> float:
    return float(LISTS_COMPUTED._value.get())


async def test_the_second_list_comes_from_the_cache(shop: Shop) -> None:
    await publish_messages(shop, GOODS, bought(new_id(), "MUG"))
    user = new_id()
    assert await ask(shop, user) == ("miss", ["MUG"])
    before = computed()
    assert await ask(shop, user) == ("hit", ["MUG"])
    assert computed() == before


async def test_an_order_of_the_user_forgets_that_users_list_and_no_other(shop: Shop) -> None:
    await publish_messages(shop, GOODS, bought(new_id(), "MUG", "TEA"))
    ada, bob = new_id(), new_id()
    await ask(shop, ada)
    await ask(shop, bob)
    await publish_messages(shop, bought(ada, "MUG", outcome=None))
    assert await ask(shop, ada) == ("miss", ["TEA"])
    assert (await ask(shop, bob))[0] == "hit"


@pytest.mark.parametrize("change", ["withdrawn", "sold out"])
async def test_a_product_that_goes_is_gone_from_every_list(shop: Shop, change: str) -> None:
    await publish_messages(shop, GOODS, bought(new_id(), "MUG", "TEA"))
    user = new_id()
    await ask(shop, user)
    await publish_messages(
        shop, [product("MUG", version=2, active=False) if change == "withdrawn" else stock("MUG", 0, version=2)]
    )
    assert await ask(shop, user) == ("miss", ["TEA"])


async def test_stock_that_only_shrinks_forgets_nothing(shop: Shop) -> None:
    await publish_messages(shop, GOODS, bought(new_id(), "MUG"))
    user = new_id()
    await ask(shop, user)
    await publish_messages(shop, [stock("MUG", 99, version=2)])
    assert (await ask(shop, user))[0] == "hit"


async def test_every_kept_list_has_an_end(shop: Shop) -> None:
    user = new_id()
    await publish_messages(shop, GOODS, bought(user, "MUG"))
    await ask(shop, user)
    life = await shop.get_context("recommendations").redis.pttl(USER_LISTS.build_entry_key(f"{user}:10"))
    assert 0 < life <= 60_000


async def test_without_redis_lists_are_computed_and_right_and_nothing_old_comes_back_with_it(shop: Shop) -> None:
    await publish_messages(shop, GOODS, bought(new_id(), "MUG", "TEA"))
    user = new_id()
    assert await ask(shop, user) == ("miss", ["MUG", "TEA"])
    server = shop.get_context("recommendations").cache._server
    async with Redis.from_url("redis://127.0.0.1:1") as nowhere:
        healthy, server._redis = server._redis, nowhere
        assert await ask(shop, user) == ("miss", ["MUG", "TEA"])
        await publish_messages(shop, [stock("MUG", 0, version=2)])
        assert await ask(shop, user) == ("miss", ["TEA"])
        server._redis = healthy

    async def is_cached() -> bool:
        state, skus = await ask(shop, user)
        assert skus == ["TEA"], "the list from before the outage is still in Redis"
        return state == "hit"

    await wait_until(is_cached)


async def test_a_client_that_has_the_list_gets_it_once(shop: Shop) -> None:
    user = new_id()
    headers = shop.issue_headers("customer", user)
    first = await shop.client.get("/v1/recommendations", headers=headers)
    assert first.headers["cache-control"] == "private, no-cache"
    again = await shop.client.get("/v1/recommendations", headers={**headers, "if-none-match": first.headers["etag"]})
    assert (again.status_code, again.headers["cache-status"].split(";")[1]) == (304, " hit")


async def test_lists_are_for_those_who_are_signed_in(shop: Shop) -> None:
    assert (await shop.client.get("/v1/recommendations")).status_code == 401
    assert (await shop.client.get("/v1/products/MUG/recommendations")).status_code == 404


@pytest.mark.parametrize(
    "path", ["/v1/recommendations?limit=0", "/v1/recommendations?limit=101", "/v1/products/%00/recommendations"]
)
async def test_what_is_out_of_bounds_is_refused(shop: Shop, path: str) -> None:
    assert (await shop.client.get(path, headers=shop.issue_headers())).status_code == 422
