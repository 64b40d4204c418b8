"""Those who watch a product get one mail: when it costs less, or is back in stock."""

from typing import Any
from uuid import UUID

import orjson

from caravan.clock import new_id
from services.catalog.use_cases.watch import notify_watchers
from services.inventory.messages import STOCK_CHANGED, StockChanged
from tests.services.catalog.conftest import CatalogAdmin
from tests.support.shop import wait_until


async def watch(catalog_admin: CatalogAdmin, sku: str, user: UUID) -> Any:
    return await catalog_admin.shop.client.post(
        f"/v1/products/{sku}/watch", headers=catalog_admin.shop.issue_headers("customer", user)
    )


async def mails(catalog_admin: CatalogAdmin, *users: UUID) -> list[str]:
    """The kinds of mail that were sent to these users."""
    rows = await catalog_admin.shop.embedded_bus.database.fetch(
        "SELECT body FROM delivery WHERE subscription = 'notifications.standard'"
    )
    found = [orjson.loads(row[0])["data"] for row in rows]
    return sorted(data["kind"] for data in found if data["user_id"] in [str(user) for user in users])


async def mailed(catalog_admin: CatalogAdmin, users: list[UUID], *kinds: str) -> None:
    async def check() -> bool:
        assert await mails(catalog_admin, *users) == list(kinds)
        return True

    await wait_until(check)


async def stocked(catalog_admin: CatalogAdmin, sku: str, available: int, version: int) -> None:
    message = StockChanged(sku=sku, on_hand=available, reserved=0, available=available, stock_version=version)
    await catalog_admin.shop.send_message("catalog", STOCK_CHANGED, message, key=sku)

    async def taken() -> bool:
        return bool(
            await catalog_admin.shop.get_database("catalog").fetchval(
                "SELECT stock_version >= $2 FROM available WHERE sku = $1", sku, version
            )
        )

    await wait_until(taken)


async def test_a_lower_price_mails_each_watcher_once(catalog_admin: CatalogAdmin) -> None:
    sku, users = await catalog_admin.made(), [new_id(), new_id(), new_id()]
    for user in users:
        assert (await watch(catalog_admin, sku, user)).status_code == 201
    assert (await watch(catalog_admin, sku, users[0])).status_code == 201
    await catalog_admin.shop.client.delete(
        f"/v1/products/{sku}/watch", headers=catalog_admin.shop.issue_headers("customer", users[2])
    )
    await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"price": {"amount": 2000, "currency": "GBP"}})
    await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"price": {"amount": 900, "currency": "GBP"}})
    await mailed(catalog_admin, users, "price_drop", "price_drop")
    await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"price": {"amount": 800, "currency": "GBP"}})
    await stocked(catalog_admin, sku, 3, 1)
    await mailed(catalog_admin, users, "price_drop", "price_drop")


async def test_a_return_to_stock_mails_each_watcher_once_whatever_comes_twice_or_late(
    catalog_admin: CatalogAdmin,
) -> None:
    sku, user = await catalog_admin.made(), new_id()
    await stocked(catalog_admin, sku, 5, 1)
    await watch(catalog_admin, sku, user)
    await stocked(catalog_admin, sku, 4, 2)
    await stocked(catalog_admin, sku, 0, 3)
    await mailed(catalog_admin, [user])
    await stocked(catalog_admin, sku, 5, 4)
    await mailed(catalog_admin, [user], "back_in_stock")
    await watch(catalog_admin, sku, user)
    await catalog_admin.shop.send_message(
        "catalog", STOCK_CHANGED, StockChanged(sku=sku, on_hand=0, reserved=0, available=0, stock_version=3), key=sku
    )
    await stocked(catalog_admin, sku, 6, 5)
    await mailed(catalog_admin, [user], "back_in_stock")


async def test_nobody_watches_what_is_not_there(catalog_admin: CatalogAdmin) -> None:
    assert (await watch(catalog_admin, "NEVER-HEARD-OF", new_id())).status_code == 404
    sku = await catalog_admin.made()
    await catalog_admin.call("DELETE", f"/v1/products/{sku}")
    assert (await watch(catalog_admin, sku, new_id())).status_code == 404
    assert (await catalog_admin.shop.client.post(f"/v1/products/{sku}/watch")).status_code == 401


async def priced(catalog_admin: CatalogAdmin, sku: str, amount: int, currency: str = "GBP") -> None:
    await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"price": {"amount": amount, "currency": currency}})


async def test_an_alert_compares_with_the_price_at_which_the_watch_began(catalog_admin: CatalogAdmin) -> None:
    """The product costs 1250 when it is made. Neither a fall to what it was nor another currency is news, a fall below
    it is.
    """
    sku, early, late, elsewhere = await catalog_admin.made(), new_id(), new_id(), new_id()
    await watch(catalog_admin, sku, early)
    await priced(catalog_admin, sku, 2000)
    await watch(catalog_admin, sku, late)
    await priced(catalog_admin, sku, 1500)
    await mailed(catalog_admin, [early, late], "price_drop")
    assert await mails(catalog_admin, early) == []
    await priced(catalog_admin, sku, 900, "EUR")
    await watch(catalog_admin, sku, elsewhere)
    await priced(catalog_admin, sku, 800, "GBP")
    await mailed(catalog_admin, [early, late, elsewhere], "price_drop", "price_drop")
    assert await mails(catalog_admin, elsewhere) == []


async def test_what_is_no_longer_so_when_the_mail_is_made_is_not_told(catalog_admin: CatalogAdmin) -> None:
    sku, user = await catalog_admin.made(), new_id()
    await watch(catalog_admin, sku, user)
    context = catalog_admin.shop.get_context("catalog")
    async with (
        context.database.unit_of_work() as uow
    ):  # an alert that was raised, and whose mails were not sent before the price rose again
        await uow.execute(
            "INSERT INTO alert (sku, kind, raised_at) VALUES ($1, 'price_drop', $2)", sku, context.clock()
        )
    while await notify_watchers(context):
        pass
    assert await mails(catalog_admin, user) == []
    await priced(catalog_admin, sku, 1000)
    await mailed(catalog_admin, [user], "price_drop")


async def test_a_product_that_comes_back_cheaper_is_told(catalog_admin: CatalogAdmin) -> None:
    sku, user = await catalog_admin.made(), new_id()
    await watch(catalog_admin, sku, user)
    await catalog_admin.call("DELETE", f"/v1/products/{sku}")
    await priced(catalog_admin, sku, 700)
    await catalog_admin.call("PATCH", f"/v1/products/{sku}", {"active": True})
    await mailed(catalog_admin, [user], "price_drop")
