"""What is recommended to whom, told by the messages of other services."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.clock import new_id
from services.recommendations import model
from services.recommendations.client import LIST_RECOMMENDATIONS, RecommendationsRequest
from services.recommendations.model import Candidate, PurchasedSku
from tests.services.recommendations.conftest import (
    bought,
    empty,
    on_sale,
    product,
    publish_messages,
    recommended,
    stock,
)
from tests.support.shop import Shop

GOODS = [*on_sale("MUG", "TEA", "POT", "CUP"), *on_sale("LAMP", "BULB", category="living")]


def habits() -> list[Any]:
    """Others buy MUG with TEA three times, LAMP with BULB twice, MUG with POT once."""
    return [
        *(published for _ in range(3) for published in bought(new_id(), "MUG", "TEA")),
        *(published for _ in range(2) for published in bought(new_id(), "LAMP", "BULB")),
        *bought(new_id(), "MUG", "POT"),
    ]


async def test_a_new_user_gets_what_is_popular(shop: Shop) -> None:
    await publish_messages(shop, GOODS, habits())
    assert await recommended(shop, new_id()) == [
        ("MUG", "popular"),
        ("TEA", "popular"),
        ("BULB", "popular"),
        ("LAMP", "popular"),
        ("POT", "popular"),
    ]


async def test_users_with_different_histories_get_different_lists(shop: Shop) -> None:
    ada, bob = new_id(), new_id()
    await publish_messages(shop, GOODS, habits(), bought(ada, "MUG"), bought(bob, "LAMP"))
    assert await recommended(shop, ada) == [
        ("TEA", "bought_together"),
        ("POT", "popular_in_category"),
        ("LAMP", "popular"),
        ("BULB", "popular"),
    ]
    assert await recommended(shop, bob) == [
        ("BULB", "bought_together"),
        ("MUG", "popular"),
        ("TEA", "popular"),
        ("POT", "popular"),
    ]


async def test_the_answer_says_what_a_rule_started_from(shop: Shop) -> None:
    user = new_id()
    await publish_messages(shop, GOODS, habits(), bought(user, "MUG"))
    items = (await shop.client.get("/v1/recommendations", headers=shop.issue_headers("customer", user))).json()["items"]
    assert {(item["sku"], item["because"]) for item in items} >= {("TEA", "MUG"), ("POT", "kitchen"), ("LAMP", None)}
    assert items[0] == {
        "sku": "TEA",
        "name": "Tea",
        "rule": "bought_together",
        "because": "MUG",
        "support": 0.4286,  # three of seven orders have both
        "confidence": 0.6,  # three of the five with a mug
        "lift": 1.4,  # 3 / 5 against the 3 of 7 that have tea
    }
    assert {(item["support"], item["confidence"], item["lift"]) for item in items[1:]} == {(None, None, None)}


async def test_what_belongs_together_comes_before_what_sells_anyway(shop: Shop) -> None:
    """MUG is in every order and POT in few: with LAMP both were bought twice, and only POT for its sake."""
    user = new_id()
    orders = [bought(new_id(), "MUG", sku) for sku in ("TEA", "CUP", "BULB", "TEA", "CUP", "BULB")]
    together = [bought(new_id(), "MUG", "POT", "LAMP") for _ in range(2)]
    await publish_messages(shop, GOODS, *orders, *together, bought(user, "LAMP"))
    assert (await recommended(shop, user, 2)) == [("POT", "bought_together"), ("MUG", "bought_together")]


async def test_an_order_that_is_undone_counts_in_no_share(shop: Shop) -> None:
    user = new_id()
    await publish_messages(shop, GOODS, habits(), bought(user, "MUG"), bought(new_id(), "LAMP", cancelled=True))
    items = (await shop.client.get("/v1/products/MUG/recommendations")).json()["items"]
    assert items[0]["support"] == 0.4286


async def test_recent_purchases_are_left_out_unless_they_are_a_habit(shop: Shop) -> None:
    user = new_id()
    mugs = (bought(user, "MUG", days_ago=days) for days in (40, 20))
    await publish_messages(shop, GOODS, habits(), *mugs, bought(user, "LAMP"), bought(user, "POT", days_ago=100))
    found = dict(await recommended(shop, user))
    assert found["MUG"] == "bought_again"
    assert "LAMP" not in found
    assert "POT" in found, "that was long ago"


async def test_a_habit_is_not_recommended_just_after_it_was_ordered(shop: Shop) -> None:
    user = new_id()
    mugs = (bought(user, "MUG", days_ago=days) for days in (40, 20, 0))
    await publish_messages(shop, GOODS, habits(), *mugs)
    assert "MUG" not in dict(await recommended(shop, user))


async def test_what_was_just_ordered_is_left_out_at_once_and_comes_back_when_the_order_fails(shop: Shop) -> None:
    user = new_id()
    order = bought(user, "MUG", outcome="rejected")
    await publish_messages(shop, GOODS, habits(), order[:1])
    assert "MUG" not in dict(await recommended(shop, user))
    await publish_messages(shop, order[1:])
    assert "MUG" in dict(await recommended(shop, user))


@pytest.mark.parametrize(
    "gone", [product("TEA", version=2, active=False), stock("TEA", 0, version=2)], ids=["withdrawn", "sold out"]
)
async def test_nothing_that_can_not_be_bought_is_recommended(shop: Shop, gone: Any) -> None:
    user = new_id()
    await publish_messages(
        shop, GOODS, habits(), bought(user, "MUG", "TEA", days_ago=40), bought(user, "MUG", "TEA", days_ago=20)
    )
    assert "TEA" in dict(await recommended(shop, user))
    await publish_messages(shop, [gone])
    assert "TEA" not in dict(await recommended(shop, user))
    assert "TEA" not in dict(await recommended(shop, new_id()))
    beside = (await shop.client.get("/v1/products/MUG/recommendations")).json()["items"]
    assert [item["sku"] for item in beside] == ["POT"]


@pytest.mark.parametrize(
    "story", [{"outcome": None}, {"outcome": "rejected"}, {"outcome": "payment_failed"}, {"cancelled": True}], ids=str
)
async def test_only_completed_orders_that_stand_are_purchases(shop: Shop, story: Any) -> None:
    await publish_messages(shop, GOODS, *(bought(new_id(), "MUG", "TEA", **story) for _ in range(3)))
    assert await recommended(shop, new_id()) == []
    assert (await shop.client.get("/v1/products/MUG/recommendations")).json()["items"] == []


async def test_products_name_what_is_bought_with_them(shop: Shop) -> None:
    await publish_messages(shop, GOODS, habits())
    answer = await shop.client.get("/v1/products/TEA/recommendations?limit=2")
    assert [(item["sku"], item["rule"]) for item in answer.json()["items"]] == [
        ("MUG", "bought_together"),
        ("POT", "popular_in_category"),
    ]
    assert (await shop.client.get("/v1/products/NOTHING/recommendations")).status_code == 404


async def test_of_a_long_order_the_most_valuable_lines_are_paired(shop: Shop) -> None:
    skus = [f"SKU{number:02}" for number in range(30)]
    orders = [bought(new_id(), *skus, prices=list(range(1, 31))) for _ in range(2)]
    await publish_messages(shop, on_sale(*skus), *orders)
    pairs = await shop.get_database("recommendations").fetchrow("SELECT count(*), min(least(sku, other)) FROM pair")
    assert tuple(pairs or ()) == (190, "SKU10")
    assert len(await recommended(shop, new_id(), limit=100)) == 30, "all lines are popular"


async def tables(shop: Shop) -> list[Any]:
    database = shop.get_database("recommendations")
    queries = (
        "SELECT sku, name, category, active, product_version, available, stock_version FROM product ORDER BY sku",
        "SELECT * FROM purchase ORDER BY order_id",
        "SELECT * FROM sold WHERE orders <> 0 ORDER BY sku",
        "SELECT * FROM pair WHERE orders <> 0 ORDER BY sku, other",
    )
    return [await database.fetch(query) for query in queries]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_messages_that_come_five_times_and_in_any_order_leave_the_same_tables(shop: Shop, seed: int) -> None:
    user = new_id()
    published = [
        *GOODS,
        *habits(),
        *bought(user, "MUG", "LAMP", cancelled=True),
        *bought(user, "POT", outcome="rejected"),
        product("TEA", version=2, category="tea"),
        product("TEA", version=3, category="drinks"),
        *(stock("MUG", 100 - number, version=1 + number) for number in range(1, 20)),
    ]
    await publish_messages(shop, published)
    once = await tables(shop)
    await publish_messages(shop, published, seed=seed, times=5)
    assert await tables(shop) == once
    await empty(shop)
    await publish_messages(shop, published, seed=seed, times=5)
    assert await tables(shop) == once
    for item in published:
        item.id = new_id()  # the same fact in a message of its own
    await publish_messages(shop, published, seed=seed)
    assert await tables(shop) == once


async def test_old_news_of_a_product_or_its_stock_changes_nothing(shop: Shop) -> None:
    await publish_messages(shop, GOODS, habits(), [product("TEA", version=3, active=False), stock("MUG", 0, version=3)])
    await publish_messages(shop, [product("TEA", version=2), stock("MUG", 50, version=2)])
    assert not {"TEA", "MUG"} & set(dict(await recommended(shop, new_id())))


async def test_other_services_get_the_same_list(shop: Shop) -> None:
    user = new_id()
    await publish_messages(shop, GOODS, habits(), bought(user, "MUG"))
    answer = await shop.get_context("recommendations").call(
        LIST_RECOMMENDATIONS, RecommendationsRequest(user_id=user, limit=3)
    )
    assert [(item.sku, item.rule) for item in answer.items] == await recommended(shop, user, limit=3)
    assert (
        len(
            (
                await shop.get_context("recommendations").call(
                    LIST_RECOMMENDATIONS, RecommendationsRequest(user_id=user, limit=10**9)
                )
            ).items
        )
        == 4
    )


SKUS = [f"S{number}" for number in range(12)]
candidates = st.lists(st.sampled_from(SKUS).map(lambda sku: Candidate(sku, sku, None)), max_size=12)


@given(st.integers(1, 15), st.tuples(candidates, candidates, candidates, candidates))
def test_a_list_is_as_long_as_it_can_be_and_holds_nothing_twice(limit: int, lists: tuple[list[Candidate], ...]) -> None:
    rules = dict(zip(("bought_together", "bought_again", "popular_in_category", "popular"), lists, strict=True))
    found = model.compose_list(limit, rules)
    skus = [item.sku for _, item in found]
    assert len(skus) == len(set(skus)) == min(limit, len({item.sku for items in lists for item in items}))
    assert all(item in rules[rule] for rule, item in found)


NOW = datetime(2026, 3, 10, tzinfo=UTC)
moments = st.none() | st.integers(0, 200).map(lambda days: NOW - timedelta(days=days))
histories = st.lists(
    st.builds(PurchasedSku, st.sampled_from(SKUS), st.integers(0, 4), moments, moments),
    max_size=12,
    unique_by=lambda item: item.sku,
)


@given(histories)
def test_taste_keeps_apart_what_is_a_habit_and_what_was_ordered_lately(history: list[PurchasedSku]) -> None:
    found = model.derive_taste(history, NOW, timedelta(days=90), timedelta(days=14))
    just_ordered = {item.sku for item in history if item.held_at and (NOW - item.held_at).days < 14}
    assert set(found.repeat_skus) == {item.sku for item in history if item.times >= 2 and item.bought_at} - just_ordered
    assert found.excluded_skus == {item.sku for item in history if item.held_at and (NOW - item.held_at).days < 90}
    assert len(found.seeds) == sum(item.bought_at is not None for item in history)
