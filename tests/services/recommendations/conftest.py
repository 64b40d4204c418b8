"""A shop with recommendations, and purchases as the other services publish them."""

import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from caravan.clock import new_id, utc_now
from caravan.money import Money
from caravan.runtime import Backends, list_subscriptions
from services.catalog.messages import PRODUCT_UPDATED, ProductUpdated
from services.inventory.messages import STOCK_CHANGED, StockChanged
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED, OrderCancelled, OrderCreated, OrderLine
from services.processing.messages import ORDER_PROCESSED, OrderProcessed, Outcome
from services.recommendations.caches import OFFERED_PRODUCTS
from tests.support.order_messages import ADDRESS, PublishedMessage
from tests.support.shop import Shop, run_services, wait_until


def product(sku: str, category: str = "kitchen", version: int = 1, active: bool = True) -> PublishedMessage:
    price = Money(amount=100, currency="GBP")
    updated = ProductUpdated(
        sku=sku,
        product_version=version,
        name=sku.title(),
        description="",
        category=category,
        price=price,
        previous_price=None,
        attributes={},
        active=active,
    )
    return PublishedMessage(PRODUCT_UPDATED, updated, sku)


def stock(sku: str, available: int = 100, version: int = 1) -> PublishedMessage:
    return PublishedMessage(
        STOCK_CHANGED,
        StockChanged(sku=sku, on_hand=available, reserved=0, available=available, stock_version=version),
        sku,
    )


def on_sale(*skus: str, category: str = "kitchen") -> list[PublishedMessage]:
    return [published for sku in skus for published in (product(sku, category), stock(sku))]


def bought(
    user_id: UUID,
    *skus: str,
    outcome: Outcome | None = "completed",
    cancelled: bool = False,
    days_ago: float = 0,
    prices: Sequence[int] = (),
) -> list[PublishedMessage]:
    """An order of a user with one of each."""
    order_id = new_id()
    priced = zip(skus, prices or [100] * len(skus), strict=True)
    total = Money(amount=100 * len(skus), currency="GBP")
    created = OrderCreated(
        order_id=order_id,
        user_id=user_id,
        email="ada@example.com",
        customer_name="Ada",
        lines=[OrderLine(sku=sku, name=sku, category="kitchen", quantity=1, unit_price=price) for sku, price in priced],
        total=total,
        shipping_address=ADDRESS,
        payment_method="card",
        placed_at=utc_now() - timedelta(days=days_ago),
    )
    published = [PublishedMessage(ORDER_CREATED, created, order_id)]
    if outcome:
        processed = OrderProcessed(
            order_id=order_id, user_id=user_id, email="ada@example.com", outcome=outcome, reason="", total=total
        )
        published.append(PublishedMessage(ORDER_PROCESSED, processed, order_id))
    if cancelled:
        undone = OrderCancelled(order_id=order_id, user_id=user_id, email="ada@example.com", reason="", refunded=total)
        published.append(PublishedMessage(ORDER_CANCELLED, undone, order_id))
    return published


async def publish_messages(
    shop: Shop, *sequences: list[PublishedMessage], seed: int | None = None, times: int = 1
) -> None:
    """Publish, each message so many times, in an order shuffled by the seed; done when everything has been handled."""
    messages = [item for published in sequences for item in published for _ in range(times)]
    if seed is not None:
        random.Random(seed).shuffle(messages)
    async with shop.get_database("recommendations").unit_of_work() as uow:
        for item in messages:
            uow.emit(item.channel, item.message, key=str(item.key), message_id=item.id)

    async def quiet() -> bool:
        pending = await shop.get_database("recommendations").fetchval("SELECT count(*) FROM outbox")
        return not pending and not any(
            (await shop.process.bus.measure_lag(list_subscriptions(shop.process.services))).values()
        )

    await wait_until(quiet)


async def empty(shop: Shop) -> None:
    async with shop.get_database("recommendations").unit_of_work() as uow:
        await uow.execute("TRUNCATE product, purchase, sold, pair, inbox")
    await shop.get_context("recommendations").cache.invalidate({OFFERED_PRODUCTS()})


async def recommended(shop: Shop, user_id: UUID, limit: int = 10) -> list[tuple[str, str]]:
    """Sku and rule."""
    answer = await shop.client.get(
        f"/v1/recommendations?limit={limit}", headers=shop.issue_headers("customer", user_id)
    )
    assert answer.status_code == 200, answer.text
    return [(item["sku"], item["rule"]) for item in answer.json()["items"]]


@pytest.fixture(scope="module")
async def recommendations(backends: Backends) -> AsyncIterator[Shop]:
    async with run_services(backends, "recommendations") as shop:
        yield shop


@pytest.fixture
async def shop(recommendations: Shop) -> Shop:
    await empty(recommendations)
    return recommendations
