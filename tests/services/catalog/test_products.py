"""Products through HTTP: made, changed, withdrawn, imported, found."""

import asyncio
from typing import Any

import pytest

from caravan.clock import new_id
from services.catalog.client import GET_OFFERS, OffersRequest
from tests.services.catalog.conftest import CatalogAdmin
from tests.support.shop import wait_until


async def test_a_product_is_made_changed_and_withdrawn_with_contiguous_versions(catalog_admin: CatalogAdmin) -> None:
    sku = await catalog_admin.made()
    assert (
        await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"price": {"amount": 990, "currency": "GBP"}})
    ).json()["version"] == 2
    assert (
        await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"price": {"amount": 990, "currency": "GBP"}})
    ).json()["version"] == 2
    assert (await catalog_admin.call("DELETE", f"/v1/products/{sku}")).status_code == 204
    assert (await catalog_admin.call("DELETE", f"/v1/products/{sku}")).status_code == 204
    assert (await catalog_admin.call("GET", f"/v1/products/{sku}", role="customer")).status_code == 404
    assert (await catalog_admin.call("GET", f"/v1/products/{sku}")).json()["active"] is False
    assert (await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"active": True})).json()["version"] == 4

    async def get_four_events() -> list[dict[str, Any]]:
        events = await catalog_admin.events(sku)
        assert len(events) == 4
        return events

    events = await wait_until(get_four_events)
    assert [event["product_version"] for event in events] == [1, 2, 3, 4]
    assert [event["active"] for event in events] == [True, True, False, True]
    assert [(event["previous_price"] or {}).get("amount") for event in events] == [None, 1250, 990, 990]
    audited_actions = ["product.made", "price.changed", "product.withdrawn", "product.restored"]

    async def recorded() -> list[dict[str, Any]]:
        audited = [envelope["data"] for envelope in await catalog_admin.shop.read_topic("audit", f"product:{sku}")]
        assert [record["action"] for record in audited] == audited_actions
        return audited

    changed = (await wait_until(recorded))[1]
    assert changed["details"] == {
        "before": {"amount": 1250, "currency": "GBP"},
        "after": {"amount": 990, "currency": "GBP"},
    }


async def test_a_change_puts_a_notification_on_the_queue(catalog_admin: CatalogAdmin) -> None:
    sku = await catalog_admin.made()

    async def queued() -> list[dict[str, Any]]:
        return await catalog_admin.shop.read_queue("notifications.standard", f"product:{sku}:1")

    message = (await wait_until(queued))[0]["data"]
    assert (message["kind"], message["email"], message["values"]["sku"]) == ("product_updated", "desk@example.com", sku)


@pytest.mark.parametrize("sku", ["85123A", "DCGS0003", "gift_0001_20", "15056BL", "A", "A.b-c_d 9"])
async def test_skus_of_all_shops_are_taken(catalog_admin: CatalogAdmin, sku: str) -> None:
    assert (await catalog_admin.call("POST", "/v1/products", catalog_admin.product(sku))).status_code in (201, 409)
    assert (await catalog_admin.call("GET", f"/v1/products/{sku}")).json()["sku"] == sku


@pytest.mark.parametrize(
    "wrong",
    [
        {"price": {"amount": 1, "currency": "ABC"}}, {"price": {"amount": 1, "currency": "XXX"}},
        {"price": {"amount": 1, "currency": "gbp"}}, {"sku": "-A"}, {"sku": "A" * 41}, {"sku": "A\x00"}, {"sku": "A/B"},
        {"name": ""}, {"name": "a\x00b"}, {"price": {"amount": 0, "currency": "GBP"}},
        {"price": {"amount": 1.5, "currency": "GBP"}}, {"price": {"amount": 10**30, "currency": "GBP"}}, {"version": 7},
        {"id": "x"}, {"attributes": {"a": "b\x00"}},
        {"attributes": {"a": 10**30}}, {"attributes": {"": 1}}, {"description": None},
    ],
)  # fmt: skip
async def test_what_is_no_product_is_422_and_nothing_is_made(
    catalog_admin: CatalogAdmin, wrong: dict[str, Any]
) -> None:
    product = catalog_admin.product() | wrong
    assert (await catalog_admin.call("POST", "/v1/products", product)).status_code == 422
    assert (await catalog_admin.call("GET", f"/v1/products/{product['sku']}".replace("\x00", "%00"))).status_code in (
        404,
        422,
    )


async def test_only_admins_change_the_catalogue(catalog_admin: CatalogAdmin) -> None:
    sku = await catalog_admin.made()
    for role in ("customer", "staff"):
        assert (await catalog_admin.call("POST", "/v1/products", catalog_admin.product(), role=role)).status_code == 403
        assert (
            await catalog_admin.call(
                "PATCH", f"/v1/products/{sku}", {"price": {"amount": 1, "currency": "GBP"}}, role=role
            )
        ).status_code == 403
        assert (await catalog_admin.call("DELETE", f"/v1/products/{sku}", role=role)).status_code == 403
    assert (await catalog_admin.call("GET", f"/v1/products/{sku}")).json()["price"]["amount"] == 1250
    assert (await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"sku": "OTHER"})).status_code == 422
    assert (await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"name": None})).status_code == 422


async def test_a_sku_is_made_once_and_a_key_answers_again(catalog_admin: CatalogAdmin) -> None:
    product, headers = (
        catalog_admin.product(),
        catalog_admin.shop.issue_headers("admin", new_id()) | {"Idempotency-Key": "k"},
    )
    answers = await asyncio.gather(
        *(catalog_admin.shop.client.post("/v1/products", json=product, headers=headers) for _ in range(10))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert (await catalog_admin.call("POST", "/v1/products", product)).status_code == 409


async def test_a_stale_edit_is_412_and_an_unchanged_read_304(catalog_admin: CatalogAdmin) -> None:
    sku = await catalog_admin.made()
    read = await catalog_admin.call("GET", f"/v1/products/{sku}", role="customer")
    assert read.json()["availability"] == {"on_hand": 6, "reserved": 1, "available": 5}
    tag = read.headers["etag"]
    again = await catalog_admin.call("GET", f"/v1/products/{sku}", role="customer", If_None_Match=tag)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    await catalog_admin.change_stock(sku, 4)
    try:
        assert (await catalog_admin.call("GET", f"/v1/products/{sku}", If_None_Match=tag)).status_code == 200
    finally:
        catalog_admin.inventory.available = 5
    assert (await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"name": "Cup"}, If_Match=tag)).status_code == 200
    assert (await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"name": "Bowl"}, If_Match=tag)).status_code == 412
    assert (await catalog_admin.call("DELETE", f"/v1/products/{sku}", If_Match=tag)).status_code == 412
    assert (await catalog_admin.call("GET", f"/v1/products/{sku}")).json()["name"] == "Cup"


async def test_a_product_is_shown_without_its_stock_while_inventory_is_away(catalog_admin: CatalogAdmin) -> None:
    sku, never_stocked = await catalog_admin.made(), await catalog_admin.made(sku=f"NOSTOCK-{new_id().hex[-12:]}")
    assert (await catalog_admin.call("GET", f"/v1/products/{never_stocked}")).json()["availability"] == {
        "on_hand": 0,
        "reserved": 0,
        "available": 0,
    }
    catalog_admin.inventory.is_unavailable = True
    try:
        answer = await catalog_admin.call("GET", f"/v1/products/{sku}")
        assert (answer.status_code, answer.json()["availability"]) == (200, None)
    finally:
        catalog_admin.inventory.is_unavailable = False


async def test_parallel_edits_lose_nothing(catalog_admin: CatalogAdmin) -> None:
    sku = await catalog_admin.made()
    edits = [{"name": f"Mug {number}"} for number in range(20)]
    await asyncio.gather(*(catalog_admin.call("PATCH", f"/v1/products/{sku}", edit) for edit in edits))

    async def list_all_versions() -> list[int]:
        versions = [event["product_version"] for event in await catalog_admin.events(sku)]
        assert len(versions) == 21
        return versions

    assert await wait_until(list_all_versions) == list(range(1, 22))


async def test_an_import_repeated_changes_nothing(catalog_admin: CatalogAdmin) -> None:
    products = [catalog_admin.product() for _ in range(30)]
    assert (await catalog_admin.call("PUT", "/v1/products", {"products": products})).json() == {
        "created": 30,
        "updated": 0,
        "unchanged": 0,
    }
    assert (await catalog_admin.call("PUT", "/v1/products", {"products": products})).json() == {
        "created": 0,
        "updated": 0,
        "unchanged": 30,
    }
    products[0]["price"] = {"amount": 1, "currency": "GBP"}
    await catalog_admin.call("DELETE", f"/v1/products/{products[1]['sku']}")
    products.append(catalog_admin.product())
    assert (await catalog_admin.call("PUT", "/v1/products", {"products": products})).json() == {
        "created": 1,
        "updated": 2,
        "unchanged": 28,
    }
    assert (
        await catalog_admin.call("PUT", "/v1/products", {"products": [products[0], products[0]]})
    ).status_code == 422


async def test_offers_are_of_active_products_only(catalog_admin: CatalogAdmin) -> None:
    here, gone = await catalog_admin.made(), await catalog_admin.made()
    await catalog_admin.call("DELETE", f"/v1/products/{gone}")
    offers = (
        await catalog_admin.shop.get_context("catalog").call(GET_OFFERS, OffersRequest(skus=[here, gone, "UNKNOWN"]))
    ).offers
    assert [(offer.sku, offer.name, offer.category, offer.price.amount) for offer in offers] == [
        (here, "Enamel mug", "kitchen", 1250)
    ]


async def test_a_declared_category_limits_its_products(catalog_admin: CatalogAdmin) -> None:
    category = f"kettles {new_id().hex[-8:]}"
    rules = {"attributes": {"volume_ml": {"type": "integer", "required": True}}}
    declared = await catalog_admin.call("PUT", f"/v1/categories/{category}", rules)
    assert (declared.status_code, declared.headers["etag"]) == (200, '"1"')
    refused = await catalog_admin.call(
        "POST", "/v1/products", catalog_admin.product(category=category, attributes={"volume_ml": "much"})
    )
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "attributes.volume_ml")
    sku = await catalog_admin.made(category=category, attributes={"volume_ml": 900})
    assert (await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"attributes": {}})).status_code == 422
    assert (await catalog_admin.call("PUT", f"/v1/categories/{category}", rules, If_Match='"7"')).status_code == 412
    assert (
        await catalog_admin.call("PUT", f"/v1/categories/{category}", {"attributes": {}, "free": True}, If_Match='"1"')
    ).json()["version"] == 2
    assert (await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"attributes": {}})).status_code == 200
    assert category in [
        item["name"] for item in (await catalog_admin.shop.client.get("/v1/categories?limit=100")).json()["items"]
    ]
