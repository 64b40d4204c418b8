"""Tell other services what stock has changed, and void what the cache has of it: one message and one tag per product
and round, however many orders moved it.
"""

import asyncio

from services.inventory.caches import STOCK
from services.inventory.messages import STOCK_CHANGED, StockChanged
from services.inventory.store import stock_table
from services.inventory.use_cases import BATCH, InventoryContext

SWEEP_SECONDS = 10.0


async def publish_stock_changes(context: InventoryContext) -> bool:
    """Publish the stock that changed: one message per sku and round, however many orders touched it."""
    resources, now = context.resources, asyncio.get_running_loop().time()
    is_sweep = now - resources.swept_at > SWEEP_SECONDS
    skus = None if is_sweep else resources.pop_unannounced_skus(BATCH)
    if skus == []:
        return False
    async with context.database.unit_of_work() as uow:
        stocks = await stock_table.claim_unannounced_stock(uow, skus, BATCH)
        for stock in stocks:
            uow.emit(
                STOCK_CHANGED,
                StockChanged(
                    sku=stock.sku,
                    on_hand=stock.on_hand,
                    reserved=stock.reserved,
                    available=stock.available,
                    stock_version=stock.version,
                ),
                key=stock.sku,
            )
        tags = {STOCK(stock.sku) for stock in stocks}
        uow.run_after_commit(lambda: context.cache.invalidate(tags))
    if is_sweep and len(stocks) < BATCH:
        resources.swept_at = now
    return len(stocks) == BATCH
