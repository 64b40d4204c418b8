"""A shop with analytics, and the messages of orders as the other services publish them."""

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from caravan.audit import AUDIT, AuditRecorded
from caravan.clock import new_id
from caravan.money import Money
from caravan.runtime import Backends, list_subscriptions
from services.analytics.caches import OF_ALL_SALES, list_tags_of_days
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED, OrderCancelled, OrderCreated, OrderLine
from services.payments.messages import PAYMENT_COMPLETED, PAYMENT_REFUNDED, PaymentCompleted, PaymentRefunded
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, OrderDelivered, OrderShipped
from tests.support.order_messages import ADDRESS, PublishedMessage
from tests.support.scenario import ShopScenario, run_whole_shop
from tests.support.shop import Shop, run_services, wait_until

NOON = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
CATALOGUE = {"MUG": ("Mug", "kitchen", 1250), "LAMP": ("Lamp", "living", 4000), "FORMULA": ("=1+1", "living", 100)}


def make_order_messages(
    placed_at: datetime,
    *lines: tuple[str, int],
    ends: str = "delivered",
    currency: str = "GBP",
    country: str = "GB",
    user_id: UUID | None = None,
) -> list[PublishedMessage]:
    """All messages of an order that ends so."""
    order_id, user_id = new_id(), user_id or new_id()
    items = [
        OrderLine(
            sku=sku, name=CATALOGUE[sku][0], category=CATALOGUE[sku][1], quantity=quantity, unit_price=CATALOGUE[sku][2]
        )
        for sku, quantity in lines
    ]
    total = Money(amount=sum(line.quantity * line.unit_price for line in items), currency=currency)
    created = OrderCreated(
        order_id=order_id,
        user_id=user_id,
        email="ada@example.com",
        customer_name="Ada",
        lines=items,
        total=total,
        shipping_address=ADDRESS.model_copy(update={"country": country}),
        payment_method="card",
        placed_at=placed_at,
    )
    published = [PublishedMessage(ORDER_CREATED, created, order_id)]
    if ends == "created":
        return published
    outcome = ends if ends in ("rejected", "payment_failed") else "completed"
    processed = OrderProcessed(
        order_id=order_id, user_id=user_id, email="ada@example.com", outcome=outcome, reason="", total=total
    )
    published.append(PublishedMessage(ORDER_PROCESSED, processed, order_id))
    if outcome != "completed":
        return published
    published.append(
        PublishedMessage(
            PAYMENT_COMPLETED,
            PaymentCompleted(order_id=order_id, amount=total, attempt=1, invoice_number="1"),
            order_id,
        )
    )
    if ends in ("shipped", "delivered"):
        shipped = OrderShipped(order_id=order_id, email="ada@example.com", carrier="c", tracking_number="t", parcels=[])
        published.append(PublishedMessage(ORDER_SHIPPED, shipped, order_id))
    if ends == "delivered":
        published.append(
            PublishedMessage(ORDER_DELIVERED, OrderDelivered(order_id=order_id, tracking_number="t"), order_id)
        )
    if ends == "refunded":
        published += make_refund_messages(order_id, user_id, total)
    return published


def make_refund_messages(order_id: UUID, user_id: UUID, total: Money) -> list[PublishedMessage]:
    refunded = PaymentRefunded(order_id=order_id, amount=total, reason="r")
    cancelled = OrderCancelled(order_id=order_id, user_id=user_id, email="ada@example.com", reason="r", refunded=total)
    return [
        PublishedMessage(PAYMENT_REFUNDED, refunded, order_id),
        PublishedMessage(ORDER_CANCELLED, cancelled, order_id),
    ]


def make_audit_record(action: str, target: str, actor: str = "admin:1", **details: Any) -> PublishedMessage:
    return PublishedMessage(
        AUDIT, AuditRecorded(actor=actor, action=action, target=target, details=details, trace_id="0" * 32), target
    )


async def publish_messages(
    shop: Shop, published: Sequence[PublishedMessage], *, seed: int | None = None, times: int = 1
) -> None:
    """Publish, each message so many times, in an order shuffled by the seed; done when everything has been handled."""
    messages = [item for item in published for _ in range(times)]
    if seed is not None:
        random.Random(seed).shuffle(messages)
    async with shop.get_database("analytics").unit_of_work() as uow:
        for item in messages:
            uow.emit(item.channel, item.message, key=str(item.key), message_id=item.id)
    await settled(shop)


async def settled(shop: Shop) -> None:
    async def quiet() -> bool:
        pending = await shop.get_database("analytics").fetchval("SELECT count(*) FROM outbox")
        lag = await shop.process.bus.measure_lag(list_subscriptions(shop.process.services))
        return not pending and not any(lag.values())

    await wait_until(quiet)


async def empty(shop: Shop) -> None:
    async with shop.get_database("analytics").unit_of_work() as uow:
        await uow.execute("TRUNCATE order_fact, order_line_fact, sale, daily_report, inbox")
    year = list_tags_of_days(date(2026, 1, 1), date(2026, 12, 31))
    await shop.get_context("analytics").cache.invalidate({*year, *OF_ALL_SALES})


@dataclass
class Watch:
    """The shop's clock."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
async def analytics(backends: Backends, watch: Watch) -> AsyncIterator[Shop]:
    async with run_services(backends, "analytics", clock=watch) as shop:
        yield shop


@pytest.fixture
async def shop(analytics: Shop, watch: Watch) -> Shop:
    watch.now = NOON
    await empty(analytics)
    return analytics


@pytest.fixture(scope="module")
async def scenario(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ShopScenario]:
    folder: Path = tmp_path_factory.mktemp("audited")
    async with run_whole_shop(backends, folder) as scenario:
        yield scenario
