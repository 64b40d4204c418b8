"""Which orders are refused, and by which field or rule."""

from typing import Any

import pytest

from caravan.clock import new_id
from tests.services.orders.neighbours import make_order_body, place_order
from tests.support.program import ADDRESS
from tests.support.shop import Shop


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"lines": []}, 422, "lines"),
        ({"lines": [{"sku": "MUG", "quantity": 0}]}, 422, "lines.0.quantity"),
        ({"lines": [{"sku": "MUG", "quantity": -1}]}, 422, "lines.0.quantity"),
        ({"lines": [{"sku": "MUG", "quantity": 10**9}]}, 422, "lines.0.quantity"),
        ({"lines": [{"sku": "MUG", "quantity": "2"}]}, 422, "lines.0.quantity"),
        ({"lines": [{"sku": "MUG", "quantity": 1, "price": 1}]}, 422, "lines.0.price"),
        ({"lines": [{"sku": "MUG", "quantity": 1}, {"sku": "MUG", "quantity": 1}]}, 422, "lines.1.sku"),
        ({"lines": [{"sku": "NOPE", "quantity": 1}]}, 422, "lines.0.sku"),
        ({"lines": [{"sku": "GONE", "quantity": 1}]}, 409, "lines.0.quantity"),
        ({"total": 1}, 422, "total"),
        ({"payment": {"method": "card", "token": "tok\u0000"}}, 422, "payment.token"),
    ],
)
async def test_a_bad_order_is_refused_by_field_and_writes_nothing(
    shop: Shop, change: dict[str, Any], status: int, field: str
) -> None:
    user = new_id()
    answer = await place_order(shop, user, {**make_order_body(("MUG", 1)), **change})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field
    assert (
        await shop.get_database("orders").fetchval("SELECT count(*) FROM event WHERE data->>'user_id' = $1", str(user))
        == 0
    )


async def test_an_order_without_a_key_and_broken_json_are_bad_requests(shop: Shop) -> None:
    headers = shop.issue_headers()
    assert (await shop.client.post("/v1/orders", json=make_order_body(("MUG", 1)), headers=headers)).status_code == 400
    assert (
        await shop.client.post(
            "/v1/orders", content=b"{", headers={**headers, "Idempotency-Key": "x", "content-type": "application/json"}
        )
    ).status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"country": "XX"},
        {"country": "ZZ"},
        {"country": "UK"},
        {"country": "gb"},
        {"postcode": "   "},
        {"postcode": "SW1Y"},
        {"postcode": "12345"},
        {"postcode": "0"},
        {"postcode": None},
        {"city": "\u200b"},
        {"name": "\u3164"},
    ],
)
async def test_an_address_that_no_parcel_reaches_is_refused_by_its_field(shop: Shop, wrong: dict[str, str]) -> None:
    body = {**make_order_body(("MUG", 1)), "shipping_address": {**ADDRESS, **wrong}}
    answer = await place_order(shop, new_id(), body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [f"shipping_address.{name}" for name in wrong]


@pytest.mark.parametrize(
    ("country", "postcode", "written"),
    [
        ("GB", "sw1y 4jh", "SW1Y 4JH"),
        ("JP", "\uff11\uff15\uff14\uff0d\uff10\uff10\uff12\uff13", "154-0023"),
        ("US", "95014", "95014"),
        ("PE", "lima 23", "LIMA 23"),
        ("IE", None, ""),
        ("HK", None, ""),
        ("AE", "PO Box 1", "PO Box 1"),
    ],
)
async def test_a_postcode_is_kept_as_its_country_writes_it(
    shop: Shop, country: str, postcode: str | None, written: str
) -> None:
    user = new_id()
    body = {**make_order_body(("MUG", 1)), "shipping_address": {**ADDRESS, "country": country, "postcode": postcode}}
    accepted = await place_order(shop, user, body)
    assert accepted.status_code == 202, accepted.text
    seen = await shop.client.get(accepted.headers["location"], headers=shop.issue_headers("customer", user))
    assert seen.json()["shipping_address"]["postcode"] == written


async def test_who_enters_orders_in_others_names_may_leave_a_postcode_unknown(shop: Shop) -> None:
    user = new_id()
    headers = {
        "authorization": f"Bearer {shop.issuer.issue_token('customer', user, act={'sub': 'client:cli'})}",
        "idempotency-key": str(new_id()),
    }
    body = {**make_order_body(("MUG", 1)), "shipping_address": {**ADDRESS, "postcode": "0"}}
    assert (await shop.client.post("/v1/orders", json=body, headers=headers)).status_code == 202


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([("DEAR-1", 1_000_000)], 202),
        ([("DEAR-1", 1_000_000), ("DEAR-2", 1)], 422),
        ([(f"LONG-{number:035d}", 1_000_000) for number in range(1000)], 422),
        ([(f"LONG-{number:035d}", 1) for number in range(500)], 202),
    ],
    ids=["the largest sum", "above the largest sum", "longer than a message", "as long as a message may be"],
)
async def test_an_order_of_legal_lines_is_accepted_or_refused_with_the_rule(
    shop: Shop, lines: list[tuple[str, int]], status: int
) -> None:
    answer = await place_order(shop, new_id(), make_order_body(*lines))
    assert answer.status_code == status, answer.text[:500]
    if status == 422:
        assert answer.json()["errors"][0]["field"] == "lines"
        assert answer.json()["errors"][0]["rule"]
