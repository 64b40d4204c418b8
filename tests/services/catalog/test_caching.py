"""Lists come from the cache, and change with the products that are or could be in them."""

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
    assert (answer.headers["cache-control"], "cache-status" in answer.headers) == ("no-store", False)
    assert (await read_list(catalog_admin, f"skus={sku}"))[1] == []
