"""What every path that takes a body does alike: content types, names given twice, and JSON that only some parsers
take.
"""

import gzip
from collections.abc import AsyncIterator

import pytest

from caravan.clock import new_id
from caravan.derivation import derive_secret
from caravan.runtime import Backends
from tests.support.shop import Shop, run_services

PRODUCT = '{"sku": "%s", "name": "Mug", "category": "kitchen", "price": {"amount": 1250, "currency": "GBP"}%s}'
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    async with run_services(backends, "gateway", "identity", "catalog", "inventory") as shop:
        yield shop


@pytest.fixture(scope="module")
async def admin(shop: Shop) -> dict[str, str]:
    secret = derive_secret(shop.process.backends.secret, "client:cli")
    form = {"grant_type": "client_credentials", "client_id": "cli", "client_secret": secret}
    token = (await shop.client.post("/v1/auth/token", data=form)).json()["access_token"]
    return {"authorization": f"Bearer {token}"}


def body(more: str = "") -> bytes:
    return (PRODUCT % (f"B-{new_id().hex[-12:]}", more)).encode()


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (body(), "application/json", 201),
        (body(), "application/json; charset=utf-8", 201),
        (body(), "Application/JSON", 201),
        (body(), "text/plain", 415),
        (body(), "application/xml", 415),
        (body(), FORM, 415),
        (body(), None, 415),
        (body(', "name": "Bowl"'), "application/json", 400),
        (body(', "attributes": {"volume_ml": NaN}'), "application/json", 400),
        (body(', "attributes": {"volume_ml": -Infinity}'), "application/json", 400),
        (body(', "attributes": {"a": {"b": 1, "b": 2}}'), "application/json", 400),
        (body(', "attributes": ' + '{"a":' * 20_000 + "1" + "}" * 20_000), "application/json", 400),
        (body(', "attributes": {"volume_ml": ' + "9" * 5000 + "}"), "application/json", 400),
        (b'{"sku": "\xff"}', "application/json", 400),
        (body(', "description": "\\ud800"'), "application/json", 422),
        (body(', "\\ud800": 1'), "application/json", 422),
        (body().replace(b"1250", b"1250.0"), "application/json", 201),
        (body().replace(b"1250", b"1250.5"), "application/json", 422),
        (body().replace(b"1250", b"1e400"), "application/json", 400),
        (gzip.compress(body()), "application/json", 400),
    ],
)
async def test_a_body_is_of_the_documented_type_and_says_each_thing_once(
    shop: Shop, admin: dict[str, str], content: bytes, content_type: str | None, status: int
) -> None:
    headers = {**admin, **({"content-type": content_type} if content_type else {})}
    answer = await shop.client.post("/v1/products", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    if status != 201:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["trace_id"]


async def test_a_name_that_stands_twice_is_named(shop: Shop, admin: dict[str, str]) -> None:
    answer = await shop.client.post(
        "/v1/products", content=body(', "name": "Bowl"'), headers={**admin, "content-type": "application/json"}
    )
    assert '"name" stands twice' in answer.json()["detail"]


@pytest.mark.parametrize(
    "form", ["grant_type=password&grant_type=refresh_token", "grant_type=password&username=a&username=b"]
)
async def test_a_form_field_given_twice_is_refused_by_name(shop: Shop, form: str) -> None:
    answer = await shop.client.post("/v1/auth/token", content=form.encode(), headers={"content-type": FORM})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["rule"] == "must be given once"


async def test_form_fields_that_nobody_knows_are_ignored_however_often_they_come(shop: Shop) -> None:
    answer = await shop.client.post(
        "/v1/auth/token", content=b"grant_type=none&x=1&x=2", headers={"content-type": FORM}
    )
    assert answer.json()["error"] == "unsupported_grant_type"


async def test_the_document_says_which_headers_come_and_go(shop: Shop) -> None:
    paths = (await shop.client.get("/openapi.json")).json()["paths"]
    product = paths["/v1/products/{sku}"]
    assert {"ETag", "X-Request-Id", "RateLimit", "RateLimit-Policy"} <= product["get"]["responses"]["200"][
        "headers"
    ].keys()
    assert any(parameter["name"] == "if-match" for parameter in paths["/v1/users/me"]["patch"]["parameters"])
    made = paths["/v1/products"]["post"]["responses"]
    assert {"Location", "ETag", "Idempotency-Replayed"} <= made["201"]["headers"].keys()
    assert made["429"]["headers"]["Retry-After"]["required"]
    assert made["405"]["headers"]["Allow"]["required"]
    assert {"408", "413", "415"} <= made.keys()
    assert "412" not in made
    assert not {"408", "409", "412", "415"} & product["get"]["responses"].keys()


@pytest.mark.parametrize(
    ("method", "path", "given", "field"),
    [
        (
            "PUT",
            "/v1/products",
            b'{"products": [%s, %s]}' % (PRODUCT_A := (PRODUCT % ("TWICE", "")).encode(), PRODUCT_A),
            "products.1.sku",
        ),
        (
            "PUT",
            "/v1/categories/kitchen",
            b'{"attributes": {"a": {"type": "integer", "choices": ["1"]}}}',
            "attributes.a.choices",
        ),
        ("POST", "/v1/stock/MUG/movements", b'{"kind": "receive", "quantity": 0}', "quantity"),
        (
            "POST",
            "/v1/stock/movements",
            b'{"movements": [{"sku": "A", "kind": "adjust", "quantity": 0}]}',
            "movements.0.quantity",
        ),
        (
            "POST",
            "/v1/stock/movements",
            b'{"movements": [{"sku": "A", "kind": "count", "quantity": 1, "reference": "r"}, {"sku": "B", "kind": '
            b'"count", "quantity": 1, "reference": "r"}]}',
            "movements.1.reference",
        ),
        ("POST", "/v1/failures/redrive", b"{}", "cause"),
    ],
)
async def test_a_rule_about_several_fields_names_the_one_to_change(
    shop: Shop, admin: dict[str, str], method: str, path: str, given: bytes, field: str
) -> None:
    answer = await shop.client.request(
        method, path, content=given, headers={**admin, "content-type": "application/json"}
    )
    assert answer.status_code == 422 and [error["field"] for error in answer.json()["errors"]] == [field], answer.text
    assert "Value error" not in answer.text
