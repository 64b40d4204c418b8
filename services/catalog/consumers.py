"""Changes of stock, for customers who wait for a product."""

from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Delivery
from services.catalog.use_cases import CatalogContext, watch
from services.inventory.messages import STOCK_CHANGED, StockChanged

consume = Consumers("catalog", linger=0.1)


@consume(STOCK_CHANGED)
async def handle_stock_changed(
    context: CatalogContext, uow: UnitOfWork, deliveries: list[Delivery[StockChanged]]
) -> None:
    await watch.record_stock_changes(context, uow, deliveries)
