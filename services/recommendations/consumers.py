"""Purchases, products and stock; cached recommendations that they change are dropped after the commit."""

from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.catalog.messages import PRODUCT_UPDATED, ProductUpdated
from services.inventory.messages import STOCK_CHANGED, StockChanged
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED, OrderCancelled, OrderCreated
from services.processing.messages import ORDER_PROCESSED, OrderProcessed
from services.recommendations import projections
from services.recommendations.caches import OFFERED_PRODUCTS, USER_ORDERS
from services.recommendations.store import history
from services.recommendations.use_cases import RecommendationsContext as Context

consume = Consumers("recommendations", linger=1.0, max_lag_seconds=600)


@consume(ORDER_CREATED)
async def handle_order_created(context: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderCreated]]) -> None:
    await projections.project_created(uow, deliveries)
    tags = {USER_ORDERS(delivery.message.user_id) for delivery in deliveries}
    uow.run_after_commit(lambda: context.cache.invalidate(tags))


@consume(ORDER_PROCESSED)
async def handle_order_processed(context: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderProcessed]]) -> None:
    await projections.project_processed(uow, deliveries)
    tags = {USER_ORDERS(delivery.message.user_id) for delivery in deliveries}
    uow.run_after_commit(lambda: context.cache.invalidate(tags))


@consume(ORDER_CANCELLED)
async def handle_order_cancelled(context: Context, uow: UnitOfWork, deliveries: list[Delivery[OrderCancelled]]) -> None:
    await projections.project_cancelled(uow, deliveries)
    tags = {USER_ORDERS(delivery.message.user_id) for delivery in deliveries}
    uow.run_after_commit(lambda: context.cache.invalidate(tags))


@consume(PRODUCT_UPDATED)
async def handle_product_updated(context: Context, uow: UnitOfWork, deliveries: list[Delivery[ProductUpdated]]) -> None:
    products = [
        (p.sku, p.product_version, p.name, p.category, p.active) for p in (delivery.message for delivery in deliveries)
    ]
    if await history.update_products(uow, products):
        uow.run_after_commit(lambda: context.cache.invalidate({OFFERED_PRODUCTS()}))


@consume(STOCK_CHANGED)
async def handle_stock_changed(context: Context, uow: UnitOfWork, deliveries: list[Delivery[StockChanged]]) -> None:
    if await history.update_stock(
        uow, [(d.message.sku, d.message.stock_version, d.message.available) for d in deliveries]
    ):
        uow.run_after_commit(lambda: context.cache.invalidate({OFFERED_PRODUCTS()}))
