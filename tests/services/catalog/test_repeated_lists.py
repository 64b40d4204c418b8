"""A list that was asked for before is answered without parsing its parameters again, by the same rules as the first
time.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from caravan.http import RepeatedReadRoute
from caravan.http.repeated_reads import MAX_ENTITY_TAGS_BYTES
from services.catalog.api import listing
from tests.services.catalog.conftest import CatalogAdmin


@pytest.fixture
def whole_ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The query strings of requests that the framework parsed."""
    [route] = listing.router.routes
    assert isinstance(route, RepeatedReadRoute)
    route.reads.clear()
    queries: list[str] = []
    handle = APIRoute.handle

    async def note_query(self: APIRoute, scope: Any, receive: Any, send: Any) -> None:
        if self is route:
            queries.append(scope["query_string"].decode())
        await handle(self, scope, receive, send)

    monkeypatch.setattr(APIRoute, "handle", note_query)
    yield queries
    route.reads.clear()


async def read_list(catalog_admin: CatalogAdmin, query: str, **headers: str) -> Any:
    return await catalog_admin.shop.client.get(f"/v1/products?{query}", headers=headers)


async def test_equal_queries_are_parsed_once_and_answered_equally(
    catalog_admin: CatalogAdmin, whole_ways: list[str]
) -> None:
    sku = await catalog_admin.made(attributes={"finish": "satin"})
    for query in (f"skus={sku}", "attr.finish=satin&limit=3", "search=enamel+mug&sort=price", ""):
        first, second = [await read_list(catalog_admin, query) for _ in range(2)]
        assert second.json() == first.json()
        assert second.headers["etag"] == first.headers["etag"]
        assert second.headers["cache-status"].startswith("Caravan; hit")
        assert whole_ways[-1] == query
    assert len(whole_ways) == 4


async def test_a_change_is_in_a_repeated_list(catalog_admin: CatalogAdmin, whole_ways: list[str]) -> None:
    sku = await catalog_admin.made()
    for _ in range(2):
        await read_list(catalog_admin, f"skus={sku}")
    await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"name": "Saucepan"})
    [item] = (await read_list(catalog_admin, f"skus={sku}")).json()["items"]
    assert item["name"] == "Saucepan"
    assert whole_ways == [f"skus={sku}"]


async def test_an_entity_tag_is_compared_and_a_too_long_one_refused(
    catalog_admin: CatalogAdmin, whole_ways: list[str]
) -> None:
    sku = await catalog_admin.made()
    answer = await read_list(catalog_admin, f"skus={sku}")
    repeated = await read_list(catalog_admin, f"skus={sku}", **{"if-none-match": answer.headers["etag"]})
    assert (repeated.status_code, repeated.content) == (304, b"")
    assert len(whole_ways) == 1
    too_long = {"if-none-match": '"' + "a" * MAX_ENTITY_TAGS_BYTES + '"'}
    assert (await read_list(catalog_admin, f"skus={sku}", **too_long)).status_code == 422


async def test_a_token_is_checked_each_time(catalog_admin: CatalogAdmin, whole_ways: list[str]) -> None:
    for headers, status in (({}, 200), ({}, 200), ({"authorization": "Bearer not.a.token"}, 401)):
        assert (await read_list(catalog_admin, "limit=2", **headers)).status_code == status
    assert len(whole_ways) == 2


@pytest.mark.parametrize("query", ["limit=1_0", "limit=0", "sort=relevance", "colour=red", "limit=1&limit=2"])
async def test_what_is_refused_once_is_refused_again(
    catalog_admin: CatalogAdmin, whole_ways: list[str], query: str
) -> None:
    first, second = [await read_list(catalog_admin, query) for _ in range(2)]
    assert (first.status_code, first.json()["errors"]) == (422, second.json()["errors"])
    assert whole_ways == [query, query]


async def test_withdrawn_products_are_never_shown_because_staff_asked_before(
    catalog_admin: CatalogAdmin, whole_ways: list[str]
) -> None:
    assert (await catalog_admin.call("GET", "/v1/products?withdrawn=true")).status_code == 200
    assert (await read_list(catalog_admin, "withdrawn=true")).status_code == 403
