"""Messages about orders as services publish them, and random histories of orders as the topics have them, for read
models that must not depend on the order of messages.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from caravan.clock import new_id
from caravan.database import Database
from caravan.messages import Channel, Delivery, Event, Message, Topic
from caravan.money import Money
from caravan.rebuild import compute_digest
from caravan.service import ReadModel
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED, Address, OrderCancelled, OrderCreated, OrderLine
from services.payments.messages import PAYMENT_COMPLETED, PAYMENT_REFUNDED, PaymentCompleted, PaymentRefunded
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, OrderDelivered, OrderShipped

START = datetime(2026, 1, 1, tzinfo=UTC)
ADDRESS = Address(name="Ada", street="12 St James's Square", city="London", postcode="SW1Y 4JH", country="GB")
MAX_BATCH = 50
Sent = tuple[Topic, Delivery[Any]]


@dataclass
class PublishedMessage:
    """A message about an order; sent again, it has the same id."""

    channel: Channel
    message: Message
    key: object
    id: UUID = field(default_factory=new_id)


def make_history(random: Random) -> list[Sent]:
    """What the topics may have of one order, some of it twice."""
    order_id, user_id = UUID(int=random.getrandbits(128), version=4), UUID(int=random.getrandbits(6), version=4)
    lines = [
        OrderLine(sku=f"SKU-{number}", name="Thing", category="all", quantity=random.randint(1, 3), unit_price=100)
        for number in random.sample(range(8), random.randint(1, 4))
    ]
    total = Money(amount=sum(line.quantity * line.unit_price for line in lines), currency="GBP")
    outcome: Any = random.choice(("completed", "rejected", "payment_failed", "cancelled"))
    events: list[tuple[Topic, Event]] = [
        (
            ORDER_CREATED,
            OrderCreated(
                order_id=order_id,
                user_id=user_id,
                email="a@example.com",
                customer_name="Ada",
                lines=lines,
                total=total,
                shipping_address=ADDRESS,
                payment_method="card",
                placed_at=START + timedelta(seconds=random.random()),
            ),
        ),
        (
            ORDER_PROCESSED,
            OrderProcessed(
                order_id=order_id, user_id=user_id, email="a@example.com", outcome=outcome, reason="", total=total
            ),
        ),
        (PAYMENT_COMPLETED, PaymentCompleted(order_id=order_id, amount=total, attempt=1, invoice_number="INV-1")),
        (PAYMENT_REFUNDED, PaymentRefunded(order_id=order_id, amount=total, reason="")),
        (
            ORDER_SHIPPED,
            OrderShipped(order_id=order_id, email="a@example.com", carrier="c", tracking_number="t", parcels=[]),
        ),
        (ORDER_DELIVERED, OrderDelivered(order_id=order_id, tracking_number="t")),
        (
            ORDER_CANCELLED,
            OrderCancelled(
                order_id=order_id,
                user_id=user_id,
                email="a@example.com",
                reason="",
                refunded=random.choice((None, total)),
            ),
        ),
    ]
    selected = random.sample(events, random.randint(1, len(events)))
    return [(topic, _deliver(random, event)) for topic, event in selected for _ in range(random.choice((1, 1, 1, 2)))]


def _deliver(random: Random, event: Event) -> Delivery[Any]:
    time = START + timedelta(seconds=random.uniform(0, 3600))
    return Delivery(event, UUID(int=random.getrandbits(128), version=4), "", time, None, None)


def cut_batches(random: Random, sent: Sequence[Sent]) -> Iterator[tuple[Topic, list[Delivery[Any]]]]:
    """The messages in another order, in batches of one topic."""
    shuffled = random.sample(sent, len(sent))
    while shuffled:
        size = random.randint(1, MAX_BATCH)
        batch, shuffled = shuffled[:size], shuffled[size:]
        for topic in random.sample(sorted({topic.name for topic, _ in batch}), len({topic for topic, _ in batch})):
            of_topic = [(each, delivery) for each, delivery in batch if each.name == topic]
            yield of_topic[0][0], [delivery for _, delivery in of_topic]


async def fold_twice(database: Database, model: ReadModel, seed: int, orders: int) -> tuple[list[Any], list[Any]]:
    """The digests of the tables after the same messages in two orders."""
    random = Random(seed)
    sent = [each for _ in range(orders) for each in make_history(random) if each[0] in model.projections]
    digests = []
    for _ in range(2):
        async with database.unit_of_work() as uow:
            for table in model.tables:
                await uow.execute(f"DELETE FROM {table}")
            for topic, deliveries in cut_batches(random, sent):
                await model.projections[topic](uow, deliveries)
            digests.append([await compute_digest(uow, table, model.empty_rows) for table in model.tables])
    return digests[0], digests[1]
