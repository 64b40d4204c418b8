"""Those who watch a product get one mail: when it costs less, or is back in stock."""

from typing import Any
from uuid import UUID

import orjson

from caravan.clock import new_id
from services.catalog import use_cases
from services.inventory.messages import STOCK_CHANGED, StockChanged
from tests.services.catalog.conftest import Desk
from tests.support.shop import wait_until


async def watch(desk: Desk, sku: str, user: UUID) -> Any:
    return await desk.shop.client.post(f"/v1/products/{sku}/watch", headers=desk.shop.issue_headers("customer", user))


async def mails(desk: Desk, *users: UUID) -> list[str]:
    """The kinds of mail that were sent to these users."""
    rows = await desk.shop.embedded_bus.database.fetch(
        "SELECT body FROM delivery WHERE subscription = 'notifications.standard'"
    )
    found = [orjson.loads(row[0])["data"] for row in rows]
    return sorted(data["kind"] for data in found if data["user_id"] in [str(user) for user in users])


async def mailed(desk: Desk, users: list[UUID], *kinds: str) -> None:
    async def check() -> bool:
        assert await mails(desk, *users) == list(kinds)
        return True

    await wait_until(check)


async def stocked(desk: Desk, sku: str, available: int, version: int) -> None:
    message = StockChanged(sku=sku, on_hand=available, reserved=0, available=available, stock_version=version)
    await desk.shop.send_message("catalog", STOCK_CHANGED, message, key=sku)

    async def taken() -> bool:
        return bool(
            await desk.shop.get_database("catalog").fetchval(
                "SELECT stock_version >= $2 FROM available WHERE sku = $1", sku, version
            )
        )

    await wait_until(taken)


async def test_a_lower_price_mails_each_watcher_once(desk: Desk) -> None:
    sku, users = await desk.made(), [new_id(), new_id(), new_id()]
    for user in users:
        assert (await watch(desk, sku, user)).status_code == 201
    assert (await watch(desk, sku, users[0])).status_code == 201
    await desk.shop.client.delete(f"/v1/products/{sku}/watch", headers=desk.shop.issue_headers("customer", users[2]))
    await desk.call("PATCH", f"/v1/products/{sku}", {"price": {"amount": 2000, "currency": "GBP"}})
    await desk.call("PATCH", f"/v1/products/{sku}", {"price": {"amount": 900, "currency": "GBP"}})
    await mailed(desk, users, "price_drop", "price_drop")
    await desk.call("PATCH", f"/v1/products/{sku}", {"price": {"amount": 800, "currency": "GBP"}})
    await stocked(desk, sku, 3, 1)
    await mailed(desk, users, "price_drop", "price_drop")


async def test_a_return_to_stock_mails_each_watcher_once_whatever_comes_twice_or_late(desk: Desk) -> None:
    sku, user = await desk.made(), new_id()
    await stocked(desk, sku, 5, 1)
    await watch(desk, sku, user)
    await stocked(desk, sku, 4, 2)
    await stocked(desk, sku, 0, 3)
    await mailed(desk, [user])
    await stocked(desk, sku, 5, 4)
    await mailed(desk, [user], "back_in_stock")
    await watch(desk, sku, user)
    await desk.shop.send_message(
        "catalog", STOCK_CHANGED, StockChanged(sku=sku, on_hand=0, reserved=0, available=0, stock_version=3), key=sku
    )
    await stocked(desk, sku, 6, 5)
    await mailed(desk, [user], "back_in_stock")


async def test_nobody_watches_what_is_not_there(desk: Desk) -> None:
    assert (await watch(desk, "NEVER-HEARD-OF", new_id())).status_code == 404
    sku = await desk.made()
    await desk.call("DELETE", f"/v1/products/{sku}")
    assert (await watch(desk, sku, new_id())).status_code == 404
    assert (await desk.shop.client.post(f"/v1/products/{sku}/watch")).status_code == 401


async def priced(desk: Desk, sku: str, amount: int, currency: str = "GBP") -> None:
    await desk.call("PATCH", f"/v1/products/{sku}", {"price": {"amount": amount, "currency": currency}})


async def test_an_alert_compares_with_the_price_at_which_the_watch_began(desk: Desk) -> None:
    """The product costs 1250 when it is made. Neither a fall to what it was nor another currency is news, a fall below
    it is.
    """
    sku, early, late, elsewhere = await desk.made(), new_id(), new_id(), new_id()
    await watch(desk, sku, early)
    await priced(desk, sku, 2000)
    await watch(desk, sku, late)
    await priced(desk, sku, 1500)
    await mailed(desk, [early, late], "price_drop")
    assert await mails(desk, early) == []
    await priced(desk, sku, 900, "EUR")
    await watch(desk, sku, elsewhere)
    await priced(desk, sku, 800, "GBP")
    await mailed(desk, [early, late, elsewhere], "price_drop", "price_drop")
    assert await mails(desk, elsewhere) == []


async def test_what_is_no_longer_so_when_the_mail_is_made_is_not_told(desk: Desk) -> None:
    sku, user = await desk.made(), new_id()
    await watch(desk, sku, user)
    context = desk.shop.get_context("catalog")
    async with (
        context.database.unit_of_work() as uow
    ):  # an alert that was raised, and whose mails were not sent before the price rose again
        await uow.execute(
            "INSERT INTO alert (sku, kind, raised_at) VALUES ($1, 'price_drop', $2)", sku, context.clock()
        )
    while await use_cases.notify_watchers(context):
        pass
    assert await mails(desk, user) == []
    await priced(desk, sku, 1000)
    await mailed(desk, [user], "price_drop")


async def test_a_product_that_comes_back_cheaper_is_told(desk: Desk) -> None:
    sku, user = await desk.made(), new_id()
    await watch(desk, sku, user)
    await desk.call("DELETE", f"/v1/products/{sku}")
    await priced(desk, sku, 700)
    await desk.call("PATCH", f"/v1/products/{sku}", {"active": True})
    await mailed(desk, [user], "price_drop")
