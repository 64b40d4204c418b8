"""The table of words: it finds what the query finds, at once, and reads as much for a word that all products have."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from caravan.clock import new_id
from caravan.database import Database, UnitOfWork
from caravan.errors import InvalidRequest
from services.catalog.model import build_prefix_query, fold_accents, sanitize_search
from services.catalog.store.listing import SORT_ORDERS, ProductFilter
from services.catalog.store.search import search_products
from tests.services.catalog.conftest import CatalogAdmin

WORDS = "red redder blue lantern lanterns kettle tea t-shirt 500 m2 or-not über the steel steely".split()
SORTS = ["relevance", *SORT_ORDERS]
MATCHING = """
    SELECT sku FROM product WHERE active = $4 AND ($5::text IS NULL OR category = $5)
        AND ($6::jsonb IS NULL OR attributes @> $6) AND ($7::text[] IS NULL OR sku = ANY($7))
        AND (search @@ (websearch_to_tsquery('english', $1) || coalesce(to_tsquery('english', $2), ''))
            OR starts_with(lower(sku), $3))
"""
COUNT_READ = """
    SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname IN ('product', 'product_word')
"""


@pytest.fixture(name="database")
def get_database(catalog_admin: CatalogAdmin) -> Database:
    return catalog_admin.shop.get_database("catalog")


async def insert_products(
    database: Database | UnitOfWork, count: int, mark: str, name: str = "", text: str = ""
) -> None:
    await database.execute(
        """INSERT INTO product (sku, name, description, category, price, currency, attributes, active, version,
                created_at, updated_at)
            SELECT format('%s-%s', $2::text, n), $3::text || ' ' || $2, $4::text, 'made', 100 + n, 'GBP', '{}', true, 1,
                now(), now() FROM generate_series(1, $1::int) AS n""",
        count,
        mark,
        name,
        text,
    )


async def read_all(database: Database, filters: ProductFilter, sort: str, limit: int = 7) -> list[str]:
    """The skus of all pages."""
    skus: list[str] = []
    after = None
    while True:
        rows = await search_products(database, filters, sort, after, limit)
        skus += [product.sku for product, _ in rows]
        if len(rows) < limit:
            return skus
        after = (rows[-1][1], rows[-1][0].sku)


async def find_matching(database: Database, filters: ProductFilter) -> list[str]:
    folded = fold_accents(filters.search or "")
    document = orjson.dumps(filters.attributes[0][0]).decode() if filters.attributes else None
    rows = await database.fetch(
        MATCHING,
        sanitize_search(folded),
        build_prefix_query(folded),
        (filters.search or "").lower(),
        filters.active,
        filters.category,
        document,
        filters.skus,
    )
    return sorted(row[0] for row in rows)


async def change_at_random(catalog_admin: CatalogAdmin, rng: random.Random, skus: list[str]) -> None:
    def make_text(most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))

    changes: list[Callable[[], dict[str, Any]]] = [
        lambda: {"name": make_text(3)},
        lambda: {"description": make_text(6)},
        lambda: {"category": rng.choice(["tea", "steel", "kitchen"])},
        lambda: {"attributes": {"size": rng.choice([1, 2]), "tags": ["red"]}},
        lambda: {"active": rng.random() < 0.6},
    ]
    for sku in rng.sample(skus, 30):
        answer = await catalog_admin.call("PATCH", f"/v1/products/{sku}", rng.choice(changes)())
        assert answer.status_code == 200, answer.text


def make_search(rng: random.Random, skus: list[str]) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randint(1, 3))]
    return rng.choice(
        [
            " ".join(words),
            words[0][: rng.randint(1, 5)],
            " or ".join(words),
            f"{words[0]} -{words[-1]}",
            f"-{words[0]}",
            f'"{words[0]} {words[-1]}"',
            f'{words[0]} -"{words[-1]} tea"',
            rng.choice(skus)[: rng.randint(2, 12)],
            rng.choice(skus).lower(),
        ]
    )


async def test_every_page_together_is_what_the_query_finds(catalog_admin: CatalogAdmin, database: Database) -> None:
    rng, mark = random.Random(11), f"zz{new_id().hex[-6:]}"
    skus = [f"RED-{mark}-{rng.choice(['x1', 'tea'])}-{one}{two}" for one in "abcdefg" for two in "abcdefghij"]
    products = [catalog_admin.product(sku, name=rng.choice(WORDS), description=rng.choice(WORDS)) for sku in skus]
    assert (await catalog_admin.call("PUT", "/v1/products", {"products": products})).status_code == 200
    await change_at_random(catalog_admin, rng, skus)
    await change_at_random(catalog_admin, rng, skus)
    found_counts = 0
    for _ in range(150):
        size = rng.choice([1, 2])
        filters = ProductFilter(
            make_search(rng, skus),
            rng.choice([None, None, "tea"]),
            rng.choice([None, None, None, rng.sample(skus, 20)]),
            rng.choice([(), (), (({"size": size}, {"size": [size]}),)]),
            rng.random() < 0.8,
        )
        sort = rng.choice(SORTS)
        found = await read_all(database, filters, sort)
        assert sorted(found) == await find_matching(database, filters), (filters, sort)
        found_counts += len(found)
    assert found_counts > 500, "the searches find enough to say something"


async def test_relevance_is_where_the_words_are_and_then_the_newest(catalog_admin: CatalogAdmin) -> None:
    one, two = f"one{new_id().hex[-8:]}", f"two{new_id().hex[-8:]}"
    texts = [
        {"name": "Mug", "description": f"{one} {two}"},
        {"name": f"Mug {one}", "description": two},
        {"name": f"Mug {one}", "category": two, "description": ""},
        {"name": f"Mug {one} {two}", "description": ""},
        {"name": f"Mug {two} {one}", "description": ""},
    ]
    made = [await catalog_admin.made(**text) for text in texts]
    answer = await catalog_admin.shop.client.get("/v1/products", params={"search": f"{one} {two}"})
    assert [item["sku"] for item in answer.json()["items"]] == made[::-1]


async def test_a_sku_that_is_the_text_comes_first_and_one_that_only_begins_with_it_last(
    catalog_admin: CatalogAdmin,
) -> None:
    text = f"q{new_id().hex[-8:]}"
    begins = [await catalog_admin.made(sku=f"{text}{end}") for end in "ab"]
    exact = await catalog_admin.made(sku=text.upper())
    named = await catalog_admin.made(name=f"Mug {text}")
    for limit in (1, 2, 10):
        skus: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            parameters = {"search": text, "limit": limit} | ({"cursor": cursor} if cursor else {})
            page = (await catalog_admin.shop.client.get("/v1/products", params=parameters)).json()
            skus += [item["sku"] for item in page["items"]]
            cursor = page["next_cursor"]
        assert skus == [exact, named, *begins], limit


async def test_a_word_of_ten_thousand_products_costs_no_more_than_a_page(database: Database) -> None:
    """What is read of the products; the sorts that the index doesn't know go along their own."""
    mark, left, right = (f"{start}{new_id().hex[-8:]}" for start in ("all", "left", "right"))
    await insert_products(database, 5000, f"L{mark}", f"{mark} {left}")
    await insert_products(database, 5000, f"R{mark}", f"{mark} {right}")
    for text, count in ((mark, 21), (f"{left} {right}", 0), (f"{mark} -{right}", 21), (f"{left} or {right}", 21)):
        for sort in ("relevance", "newest"):
            async with database.unit_of_work() as uow:
                executor: Any = uow
                before = await uow.fetchval(COUNT_READ)
                rows = await search_products(executor, ProductFilter(text), sort, None, 21)
                read = await uow.fetchval(COUNT_READ) - before
            assert len(rows) == count, (text, sort)
            assert read < 150, (text, sort)


async def test_a_word_that_many_products_get_and_lose_is_found_where_it_is(database: Database) -> None:
    mark, word = f"W{new_id().hex[-8:]}", f"word{new_id().hex[-8:]}"
    await insert_products(database, 100, mark)
    await database.execute("UPDATE product SET description = $2 WHERE sku LIKE $1 || '-%'", mark, word)
    await database.execute("UPDATE product SET description = '' WHERE sku LIKE $1 || '-_'", mark)
    found = await read_all(database, ProductFilter(word), "relevance")
    assert len(found) == len(set(found)) == 91


async def test_changes_at_the_same_time_neither_lose_words_nor_lock_each_other_out(database: Database) -> None:
    mark = f"P{new_id().hex[-8:]}"
    await insert_products(database, 40, mark)

    async def swap_words(number: int) -> None:
        for turn in range(10):
            words = [f"{mark}a", f"{mark}b"] if (number + turn) % 2 else [f"{mark}b", f"{mark}a"]
            await database.execute(
                "UPDATE product SET description = $2 WHERE sku = $1", f"{mark}-{number}", words[0] + " " + "x" * turn
            )

    await asyncio.gather(*(swap_words(number) for number in range(1, 41)))
    for word in (f"{mark}a", f"{mark}b"):
        assert len(await read_all(database, ProductFilter(word), "newest")) == 20


async def test_numbers_are_not_spent_on_products_that_are_there(
    catalog_admin: CatalogAdmin, database: Database
) -> None:
    sku = await catalog_admin.made()
    product = catalog_admin.product(sku, name="Another name")
    before = await database.fetchval("SELECT last_value FROM product_number_sequence")
    for price in range(100, 110):
        body = {"products": [product | {"price": {"amount": price, "currency": "GBP"}}]}
        assert (await catalog_admin.call("PUT", "/v1/products", body)).status_code == 200
    assert await database.fetchval("SELECT last_value FROM product_number_sequence") == before


@pytest.mark.parametrize("rank", [-0.6, -1e300, 1e300, 2.0**42 * 2, 2.0**42 * 4.5])
async def test_a_rank_that_no_page_gave_out_finds_something_or_nothing(database: Database, rank: float) -> None:
    try:
        await search_products(database, ProductFilter("mug"), "relevance", (rank, "x"), 5)
    except InvalidRequest:
        pytest.fail("a made-up cursor is not the database's business")
