"""Reading products: search, filters, pages and prices."""

import random

import pytest

from caravan.clock import new_id
from caravan.http import encode_cursor
from services.catalog.api.listing import CURSOR_PARSERS
from tests.services.catalog.conftest import CatalogAdmin


async def listed(catalog_admin: CatalogAdmin, query: str) -> list[str]:
    answer = await catalog_admin.shop.client.get(f"/v1/products?{query}")
    assert answer.status_code == 200, answer.text
    return [item["sku"] for item in answer.json()["items"]]


async def test_a_search_of_any_signs_finds_something_or_nothing(catalog_admin: CatalogAdmin) -> None:
    """The database's parser of searches fails at some: what reaches it is bounded and plain."""
    rng = random.Random(7)
    pieces = [
        "-",
        '"',
        "or",
        " ",
        "!",
        "&",
        "|",
        "(",
        ")",
        "<->",
        ":*",
        "'",
        "\\",
        "tea",
        "t-shirt",
        ".",
        "é",
        "٣",
        "\u200d",
        "\U0001f600",
    ]
    odd = [
        "-" * 40,
        "-" * 200,
        "- " * 100,
        "-!" * 100,
        '-"' * 100,
        "-or" * 60,
        "a-" * 100,
        "-a " * 66,
        "(" * 200,
        "!" * 200,
        "'" * 199,
        '"' * 199,
        "-." * 100,
    ]
    for search in odd + ["".join(rng.choices(pieces, k=60))[:200] for _ in range(200)]:
        answer = await catalog_admin.shop.client.get("/v1/products", params={"search": search})
        assert answer.status_code == 200, (search, answer.text)


async def test_a_value_that_the_database_refuses_is_the_requests_fault(catalog_admin: CatalogAdmin) -> None:
    """Whatever no check foresaw: a value out of a column's range is not the shop's failure."""
    cursor = encode_cursor("name", "a\x00", "A")
    assert (
        await catalog_admin.shop.client.get("/v1/products", params={"sort": "name", "cursor": cursor})
    ).status_code == 400
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.catalog.api.listing.CURSOR_PARSERS", {**CURSOR_PARSERS, "name": str})
        answer = await catalog_admin.shop.client.get("/v1/products", params={"sort": "name", "cursor": cursor})
    assert answer.status_code == 422 and answer.json()["trace_id"], answer.text


async def test_half_a_character_in_a_name_of_a_field_is_refused_as_a_problem(catalog_admin: CatalogAdmin) -> None:
    answer = await catalog_admin.shop.client.post(
        "/v1/products",
        content=b'{"\\ud800": 1}',
        headers={"content-type": "application/json", **catalog_admin.shop.issue_headers("admin")},
    )
    assert answer.status_code == 422 and answer.json()["errors"], answer.text


async def test_search_finds_words_stems_beginnings_and_skus(catalog_admin: CatalogAdmin) -> None:
    mark = f"m{new_id().hex[-10:]}"
    lantern = await catalog_admin.made(
        sku=f"LAN-{mark}", name=f"Oil lanterns {mark}", description="Burns for 20 hours", category="light"
    )
    kettle = await catalog_admin.made(
        sku=f"KET-{mark}", name=f"Travel kettle {mark}", description="For tea under a lantern", category="kitchen"
    )
    assert await listed(catalog_admin, f"search={mark} lantern") == [lantern, kettle], "a word in the name weighs more"
    assert await listed(catalog_admin, f"search={mark} lanter") == [lantern, kettle]
    assert await listed(catalog_admin, f"search={mark} lantern -kettle") == [lantern]
    assert await listed(catalog_admin, f'search={mark} "travel kettle"') == [kettle]
    assert await listed(catalog_admin, f'search={mark} "kettle travel"') == []
    assert await listed(catalog_admin, f"search=ket-{mark}") == [kettle]
    assert await listed(catalog_admin, f"search={mark}&category=light") == [lantern]
    assert await listed(catalog_admin, f"skus={kettle},{lantern}&sort=sku") == [kettle, lantern]
    for odd in ("%27", "%5C", "%25", "_", "(", "%22", "a %26 | !", ":*", "-", "the", "😀"):
        await listed(catalog_admin, f"search={odd}")
    assert (await catalog_admin.shop.client.get("/v1/products?search=%00")).status_code == 422


async def test_attributes_are_filtered_by_text_number_truth_and_list(catalog_admin: CatalogAdmin) -> None:
    mark = f"m{new_id().hex[-10:]}"
    one = await catalog_admin.made(name=mark, attributes={"volume_ml": 900, "organic": True, "tags": ["new", "steel"]})
    two = await catalog_admin.made(name=mark, attributes={"volume_ml": "900", "organic": False, "size": {"cm": [1, 2]}})
    base = f"search={mark}&sort=newest"
    assert await listed(catalog_admin, f"{base}&attr.volume_ml=900") == [two, one]
    assert await listed(catalog_admin, f"{base}&attr.organic=true") == [one]
    assert await listed(catalog_admin, f"{base}&attr.tags=steel&attr.volume_ml=900") == [one]
    assert await listed(catalog_admin, f"{base}&attr.organic=true&attr.organic=false") == [two, one]
    assert (await catalog_admin.shop.client.get("/v1/products?attr.x=%00")).status_code == 422


@pytest.mark.parametrize("sort", ["relevance", "newest", "name", "price", "-price", "sku"])
async def test_pages_are_stable_while_products_are_added(catalog_admin: CatalogAdmin, sort: str) -> None:
    mark = f"m{new_id().hex[-10:]}"
    there = {
        await catalog_admin.made(name=f"Mug {mark} {number % 3}", price={"amount": 100 + number % 4, "currency": "GBP"})
        for number in range(11)
    }
    seen: list[str] = []
    cursor = ""
    while True:
        page = (
            (await catalog_admin.shop.client.get(f"/v1/products?search={mark}&sort={sort}&limit=3{cursor}"))
            .raise_for_status()
            .json()
        )
        seen += [item["sku"] for item in page["items"]]
        for amount in (1, 10_000):
            await catalog_admin.made(name=f"Added {mark}", price={"amount": amount, "currency": "GBP"})
        if page["next_cursor"] is None or len(seen) > 60:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)), "none comes twice"
    assert there <= set(seen), "none is left out"


async def test_prices_are_compared_within_their_currency(catalog_admin: CatalogAdmin) -> None:
    """3,000 yen are not dearer than 29.99 pounds for having more minor units."""
    mark = f"m{new_id().hex[-10:]}"
    prices = [("GBP", 2999), ("JPY", 3000), ("KWD", 10_000), ("JPY", 999), ("GBP", 12_345), ("KWD", 9)]
    for currency, amount in prices:
        await catalog_admin.made(name=f"Mug {mark}", price={"amount": amount, "currency": currency})

    async def by(sort: str) -> list[tuple[str, int]]:
        seen, cursor = [], ""
        while True:
            page = (
                (await catalog_admin.shop.client.get(f"/v1/products?search={mark}&sort={sort}&limit=2{cursor}"))
                .raise_for_status()
                .json()
            )
            seen += [(item["price"]["currency"], item["price"]["amount"]) for item in page["items"]]
            if page["next_cursor"] is None:
                return seen
            cursor = f"&cursor={page['next_cursor']}"

    assert await by("price") == sorted(prices)
    assert await by("-price") == sorted(prices, reverse=True)


@pytest.mark.parametrize(
    "cursor", [encode_cursor("name", "a\x00", "B"), encode_cursor("price", "GBP", "B"),
    encode_cursor("price", 2**63, "B"), encode_cursor("newest", "2026-01-01T00:00:00", "B"),
    encode_cursor("newest", 5, "B"), encode_cursor("x"), "%"]
)  # fmt: skip
@pytest.mark.parametrize("sort", ["name", "price", "newest"])
async def test_a_made_up_cursor_is_400(catalog_admin: CatalogAdmin, cursor: str, sort: str) -> None:
    assert (
        await catalog_admin.shop.client.get("/v1/products", params={"sort": sort, "cursor": cursor})
    ).status_code == 400
