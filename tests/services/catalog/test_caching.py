"""Lists and pages come from the cache, and change with the products and the stock that they show."""

from caravan.clock import new_id
from services.catalog.caches import PRODUCT_PAGES
from tests.services.catalog.conftest import CatalogAdmin


async def read_list(catalog_admin: CatalogAdmin, query: str) -> tuple[str, list[str]]:
    answer = await catalog_admin.shop.client.get(f"/v1/products?{query}")
    assert answer.status_code == 200, answer.text
    return answer.headers["cache-status"].split(";")[1].strip(), [item["sku"] for item in answer.json()["items"]]


async def test_the_second_list_comes_from_the_cache_and_can_be_asked_for_by_its_tag(
    catalog_admin: CatalogAdmin,
) -> None:
    sku = await catalog_admin.made()
    assert await read_list(catalog_admin, f"skus={sku}") == ("fwd=miss", [sku])
    assert await read_list(catalog_admin, f"skus={sku}") == ("hit", [sku])
    answer = await catalog_admin.shop.client.get(f"/v1/products?skus={sku}")
    assert answer.headers["cache-control"] == "no-cache"
    again = await catalog_admin.shop.client.get(
        f"/v1/products?skus={sku}", headers={"if-none-match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])


async def test_a_change_is_in_every_list_at_once_and_voids_no_other(catalog_admin: CatalogAdmin) -> None:
    sku, other = await catalog_admin.made(category="pans"), await catalog_admin.made(category="lamps")
    lists = (f"skus={sku}", "category=pans", "sort=newest", "search=saucepan", f"skus={other}", "category=lamps")
    for query in lists:
        await read_list(catalog_admin, query)
    assert [(await read_list(catalog_admin, query))[0] for query in lists] == ["hit"] * 6
    await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"name": "Saucepan"})
    assert [(await read_list(catalog_admin, query))[0] for query in lists] == ["fwd=miss"] * 4 + ["hit"] * 2
    assert (await read_list(catalog_admin, "search=saucepan"))[1] == [sku]


async def test_a_product_leaves_the_list_of_its_category(catalog_admin: CatalogAdmin) -> None:
    sku = await catalog_admin.made(category="cups")
    assert (await read_list(catalog_admin, "category=cups"))[1] == [sku]
    assert (await read_list(catalog_admin, "category=bowls"))[1] == []
    await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"category": "bowls"})
    assert await read_list(catalog_admin, "category=cups") == ("fwd=miss", [])
    assert await read_list(catalog_admin, "category=bowls") == ("fwd=miss", [sku])


async def test_a_change_that_is_rolled_back_voids_nothing(catalog_admin: CatalogAdmin) -> None:
    sku = await catalog_admin.made()
    await read_list(catalog_admin, f"skus={sku}")
    refused = await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"name": "New"}, if_match='"9"')
    assert refused.status_code == 412
    assert (await read_list(catalog_admin, f"skus={sku}"))[0] == "hit"


async def test_withdrawn_products_are_for_staff_and_never_in_the_cache(catalog_admin: CatalogAdmin) -> None:
    sku = await catalog_admin.made()
    await catalog_admin.call("DELETE", f"/v1/products/{sku}")
    answer = await catalog_admin.call("GET", f"/v1/products?withdrawn=true&skus={sku}")
    assert [item["sku"] for item in answer.json()["items"]] == [sku]
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["cache-status"] == "Caravan; fwd=bypass"
    assert (await read_list(catalog_admin, f"skus={sku}"))[1] == []


async def read_page(catalog_admin: CatalogAdmin, sku: str, role: str = "customer") -> tuple[str, int | None]:
    answer = await catalog_admin.call("GET", f"/v1/products/{sku}", role=role)
    assert answer.status_code == 200, answer.text
    stock = answer.json()["availability"]
    return answer.headers["cache-status"].split(";")[1].strip(), stock and stock["available"]


async def test_a_change_of_stock_voids_the_page_of_its_product_alone(catalog_admin: CatalogAdmin) -> None:
    sku, other = await catalog_admin.made(), await catalog_admin.made()
    for each in (sku, other):
        assert await read_page(catalog_admin, each) == ("fwd=miss", 5)
    catalog_admin.inventory.available = 4
    try:
        assert await read_page(catalog_admin, sku) == ("hit", 5)
        await catalog_admin.change_stock(sku, 4)
        assert await read_page(catalog_admin, sku) == ("fwd=miss", 4)
        assert await read_page(catalog_admin, other) == ("hit", 5)
    finally:
        catalog_admin.inventory.available = 5


async def test_a_page_without_stock_is_kept_for_a_second_at_most(catalog_admin: CatalogAdmin) -> None:
    sku = await catalog_admin.made()
    catalog_admin.inventory.is_unavailable = True
    try:
        assert await read_page(catalog_admin, sku) == ("fwd=miss", None)
    finally:
        catalog_admin.inventory.is_unavailable = False
    redis = catalog_admin.shop.get_context("catalog").redis
    assert 0 < await redis.pttl(PRODUCT_PAGES.build_entry_key(sku)) <= 1000


async def test_a_withdrawn_product_in_the_cache_is_shown_to_staff_alone(catalog_admin: CatalogAdmin) -> None:
    sku = await catalog_admin.made()
    await catalog_admin.call("DELETE", f"/v1/products/{sku}")
    assert (await read_page(catalog_admin, sku, "staff"))[0] == "fwd=miss"
    assert (await read_page(catalog_admin, sku, "staff"))[0] == "hit"
    assert (await catalog_admin.call("GET", f"/v1/products/{sku}", role="customer")).status_code == 404


async def test_a_product_that_does_not_exist_is_found_once_it_does(catalog_admin: CatalogAdmin) -> None:
    sku = f"T-{new_id().hex[-12:]}"
    for _ in range(2):
        assert (await catalog_admin.call("GET", f"/v1/products/{sku}")).status_code == 404
    await catalog_admin.made(sku=sku)
    assert await read_page(catalog_admin, sku) == ("fwd=miss", 5)
