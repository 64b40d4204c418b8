"""The message door: purchases, products and stock; what they change in the cache is forgotten after the commit."""

from caravan.database import UnitOfWork
from caravan.inbox import Consumers
from caravan.messages import Delivery
from services.catalog.messages import PRODUCT_UPDATED, ProductUpdated
from services.inventory.messages import STOCK_CHANGED, StockChanged
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED, OrderCancelled, OrderCreated
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.recommendations.store import history
from services.recommendations.use_cases import RecommendationsContext as Context

consume = Consumers("recommendations", linger=0.25)


@consume(ORDER_CREATED)
async def order_created(context: Context, work: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
    orders = [delivery.message for delivery in deliveries]
    await history.placed(work, [(order.order_id, order.user_id, _skus(order), order.placed_at) for order in orders])
    users = {order.user_id for order in orders}
    work.after_commit(lambda: context.parts.forget_users(users))


def _skus(order: OrderCreated) -> str:
    """The most valuable line first; each sku once."""
    lines = sorted(order.lines, key=lambda line: (-line.quantity * line.unit_price, line.sku))
    return "\n".join(dict.fromkeys(line.sku for line in lines))


@consume(ORDER_PROCESSED)
async def order_processed(context: Context, work: UnitOfWork, deliveries: list[Delivery[OrderProcessed]]) -> None:
    await history.processed(work, [(d.message.order_id, d.message.user_id, d.message.outcome) for d in deliveries])
    users = {delivery.message.user_id for delivery in deliveries}
    work.after_commit(lambda: context.parts.forget_users(users))


@consume(ORDER_CANCELLED)
async def order_cancelled(context: Context, work: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]) -> None:
    await history.cancelled(work, [(d.message.order_id, d.message.user_id) for d in deliveries])
    users = {delivery.message.user_id for delivery in deliveries}
    work.after_commit(lambda: context.parts.forget_users(users))


@consume(PRODUCT_UPDATED)
async def product_updated(context: Context, work: UnitOfWork, deliveries: list[Delivery[ProductUpdated]]) -> None:
    products = [(p.sku, p.product_version, p.name, p.category, p.active) for p in (delivery.message for delivery in deliveries)]
    if await history.described(work, products):
        work.after_commit(context.parts.forget_all)


@consume(STOCK_CHANGED)
async def stock_changed(context: Context, work: UnitOfWork, deliveries: list[Delivery[StockChanged]]) -> None:
    if await history.stocked(work, [(d.message.sku, d.message.stock_version, d.message.available) for d in deliveries]):
        work.after_commit(context.parts.forget_all)
