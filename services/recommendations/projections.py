"""Purchases, and how often each product, and each pair of products, was bought: event in, row out. The consumers write
them as events come, and a rebuild writes them from the topics. What is known of a product is a copy of what catalog and
inventory have, and no part of it.
"""

from caravan.database import UnitOfWork
from caravan.messages import Delivery
from caravan.service import ReadModel
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED, OrderCancelled, OrderCreated
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.recommendations.store import history


async def project_created(uow: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
    orders = [delivery.message for delivery in deliveries]
    await history.record_orders(
        uow, [(order.order_id, order.user_id, _join_skus(order), order.placed_at) for order in orders]
    )


def _join_skus(order: OrderCreated) -> str:
    """The most valuable line first; each sku once."""
    lines = sorted(order.lines, key=lambda line: (-line.quantity * line.unit_price, line.sku))
    return "\n".join(dict.fromkeys(line.sku for line in lines))


async def project_processed(uow: UnitOfWork, deliveries: list[Delivery[OrderProcessed]]) -> None:
    await history.record_outcomes(uow, [(d.message.order_id, d.message.user_id, d.message.outcome) for d in deliveries])


async def project_cancelled(uow: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]) -> None:
    await history.record_cancellations(uow, [(d.message.order_id, d.message.user_id) for d in deliveries])


PURCHASES = ReadModel(
    "recommendations",
    tables=("purchase", "sold", "pair"),
    projections={
        ORDER_CREATED: project_created,
        ORDER_PROCESSED: project_processed,
        ORDER_CANCELLED: project_cancelled,
    },
    empty_rows={"sold": "orders = 0", "pair": "orders = 0"},
)
