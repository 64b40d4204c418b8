"""What every path does alike: HEAD, `Allow`, and parameters that it doesn't know."""

from collections.abc import AsyncIterator

import pytest

from caravan.runtime import Backends
from tests.support.shop import Shop, run_services


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    async with run_services(backends, "gateway", "catalog", "inventory", "orders", "notifications") as shop:
        yield shop


@pytest.mark.parametrize("path", ["/v1/products", "/v1/products/NONE", "/openapi.json", "/", "/v1/orders"])
async def test_head_is_answered_as_get_is_without_a_body(shop: Shop, path: str) -> None:
    read, head = await shop.client.get(path), await shop.client.head(path)
    assert head.status_code == read.status_code
    assert head.content == b""
    assert head.headers["content-type"] == read.headers["content-type"]
    assert head.headers["content-length"] == read.headers["content-length"]


async def test_the_head_of_a_stream_ends_at_once(shop: Shop) -> None:
    head = await shop.client.head("/v1/stock/MUG/events", timeout=5)
    assert head.status_code in (200, 404)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/products/MUG", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("/v1/orders", {"GET", "HEAD", "POST"}),
        ("/v1/failures", {"GET", "HEAD"}),
    ],
)
async def test_a_method_that_is_not_served_is_told_all_that_are(shop: Shop, path: str, methods: set[str]) -> None:
    answer = await shop.client.request("PROPFIND", path)
    assert answer.status_code == 405
    allowed = {method.strip() for method in answer.headers["allow"].split(",")}
    assert methods <= allowed
    assert len(answer.headers.get_list("allow")) == 1


@pytest.mark.parametrize(
    "path", ["/v1/products?serch=mug", "/v1/products?limit=1&limit=2", "/v1/stock/MUG?x", "/v1/categories?offset=1"]
)
async def test_a_parameter_that_is_unknown_or_given_twice_is_refused_by_name(shop: Shop, path: str) -> None:
    answer = await shop.client.get(path)
    assert answer.status_code == 422, answer.text
    name = path.partition("?")[2].partition("=")[0]
    assert answer.json()["errors"][0]["field"] == f"query.{name}"


@pytest.mark.parametrize(
    "path", ["/v1/products?attr.colour=blue&attr.colour=red&limit=3", "/v1/products?search=mug&sort=name"]
)
async def test_parameters_that_a_route_declares_are_taken(shop: Shop, path: str) -> None:
    assert (await shop.client.get(path)).status_code == 200


async def test_a_gateways_own_routes_are_as_strict(shop: Shop) -> None:
    answer = await shop.client.get("/v1/failures?casue=x", headers=shop.issue_headers("admin"))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "query.casue"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/products?limit=1_0", "query.limit"),
        ("/v1/products?limit=%2B1", "query.limit"),
        ("/v1/products?limit=%201", "query.limit"),
        ("/v1/products?limit=1.0", "query.limit"),
        ("/v1/products?limit=", "query.limit"),
        ("/v1/products?withdrawn=1", "query.withdrawn"),
        ("/v1/products?withdrawn=on", "query.withdrawn"),
    ],
)
async def test_numbers_and_truths_are_written_as_the_document_says(shop: Shop, path: str, field: str) -> None:
    answer = await shop.client.get(path)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_number_in_a_header_is_written_in_digits(shop: Shop) -> None:
    answer = await shop.client.get("/v1/stock/MUG/events", headers={"last-event-id": "1_0"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "header.last-event-id"


@pytest.mark.parametrize(
    "path",
    ["/?utm_source=mail", "/docs?x=1", "/docs/messages?x=1", "/v1/notifications/unsubscribe/none?utm_source=mail"],
)
async def test_pages_are_shown_whatever_a_link_adds(shop: Shop, path: str) -> None:
    answer = await shop.client.get(path)
    assert answer.status_code in (200, 404)
    assert answer.headers["content-type"].startswith("text/html")
