"""Watches on products: made and ended by users, and the mails to those who wait for a lower price or for stock.

`change.py` raises the alerts of lower prices; those of stock come with inventory's events.
"""

from collections.abc import Sequence
from typing import Any

from caravan.auth import Caller
from caravan.clock import new_id
from caravan.database import UnitOfWork
from caravan.errors import Forbidden, NotFound
from caravan.messages import Delivery
from caravan.money import Money
from services.catalog.model import Product
from services.catalog.schemas import (
    WatchDocument,
)
from services.catalog.store import watches
from services.catalog.use_cases import CatalogContext
from services.identity.client import GET_CUSTOMER_STATUS, CustomerStatusRequest
from services.inventory.messages import StockChanged
from services.notifications.messages import STANDARD_NOTIFICATIONS, SendNotification

NOTIFY_BATCH = 500


async def get_email(context: CatalogContext, caller: Caller) -> str:
    """Where a user gets mail. Raises Forbidden for one who is no user, or is disabled."""
    try:
        status = await context.call(GET_CUSTOMER_STATUS, CustomerStatusRequest(user_id=caller.user_id))
    except (ValueError, NotFound):
        raise Forbidden("only users with an account can watch products") from None
    if not status.active:
        raise Forbidden("your account is disabled")
    return status.email


async def watch_product(
    context: CatalogContext, uow: UnitOfWork, caller: Caller, product: Product, email: str
) -> WatchDocument:
    start = await watches.insert_watch(uow, new_id(), product, caller.user_id, email, context.clock())
    return WatchDocument(
        sku=product.sku, email=email, since=start.since, price=Money(amount=start.price, currency=start.currency)
    )


async def unwatch_product(context: CatalogContext, caller: Caller, sku: str) -> None:
    try:
        user_id = caller.user_id
    except ValueError:
        return  # a client of the API that is no user watches nothing
    async with context.database.unit_of_work() as uow:
        await watches.delete_watch(uow, sku, user_id)


async def record_stock_changes(
    context: CatalogContext, uow: UnitOfWork, deliveries: Sequence[Delivery[StockChanged]]
) -> None:
    """Raise alerts for products that have come back, none for old news."""
    latest: dict[str, tuple[int, int]] = {}
    for delivery in deliveries:
        stock = delivery.message
        if stock.stock_version >= latest.get(stock.sku, (0, 0))[1]:
            latest[stock.sku] = (stock.available, stock.stock_version)
    skus = await watches.record_available_units(uow, latest)
    if skus and await watches.raise_back_in_stock(uow, skus, context.clock()):
        uow.run_after_commit(lambda: context.wake("notify-watchers"))


async def notify_watchers(context: CatalogContext) -> bool:
    """Send the mails of the oldest alert, so many at a time; a watch ends with its mail. What is no longer so by now is
    not notified, and its watches go on.
    """
    async with context.database.unit_of_work() as uow:
        alert = await watches.lock_oldest_alert(uow)
        if alert is None:
            return False
        ended_watches = await watches.end_watches(uow, alert, NOTIFY_BATCH)
        for watch in ended_watches:
            dedup_key = f"watch:{watch['id']}"
            values: dict[str, Any] = {"sku": alert["sku"], "name": watch["name"]}
            if alert["kind"] == "price_drop":
                for name, amount in (("price", watch["price"]), ("previous_price", watch["watched_at"])):
                    values[name] = Money(amount=amount, currency=watch["currency"]).model_dump()
            message = SendNotification(
                about=dedup_key, kind=alert["kind"], user_id=watch["user_id"], email=watch["email"], values=values
            )
            uow.emit(STANDARD_NOTIFICATIONS, message, key=dedup_key)
        if len(ended_watches) < NOTIFY_BATCH:
            await watches.delete_alert(uow, alert["sku"], alert["kind"])
    return True
