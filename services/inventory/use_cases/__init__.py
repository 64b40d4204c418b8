"""The use cases of inventory, a module for each verb. Here is what they share."""

from collections.abc import Iterable
from uuid import UUID

from caravan.concurrency import DataLoader
from caravan.database import UnitOfWork
from caravan.errors import MessageRejected
from caravan.live_streams import LiveHub
from caravan.service import ServiceContext
from services.inventory.client import Availability
from services.inventory.messages import StockLine
from services.inventory.model import StockLedger
from services.inventory.settings import Settings
from services.shipping.messages import Parcel

BATCH = 500
SERVICE = "service:inventory"


class InventoryResources:
    """What the service keeps in the process. `skus`: what it has changed and not announced yet; only a hint, a sweep
    over all stock finds what it has lost. `live`: who watches which sku.
    """

    def __init__(self, availability_loader: DataLoader[str, Availability], live: LiveHub) -> None:
        self.unannounced_skus: set[str] = set()
        self.swept_at = 0.0
        self.availability_loader = availability_loader
        self.live = live

    def pop_unannounced_skus(self, limit: int) -> list[str]:
        skus = sorted(self.unannounced_skus)[:limit]
        self.unannounced_skus.difference_update(skus)
        return skus


InventoryContext = ServiceContext[Settings, InventoryResources]


def announce_after_commit(context: InventoryContext, uow: UnitOfWork, ledger: StockLedger) -> None:
    """After the commit: hint to live streams at once, and note the skus for the next announcement."""
    skus = list(ledger.get_changed_stocks())
    if not skus:
        return

    async def publish_hints() -> None:
        context.resources.unannounced_skus.update(skus)
        await context.changes.publish("stock", skus)

    uow.run_after_commit(publish_hints)


def sum_quantities(order_id: UUID, lines: Iterable[StockLine | Parcel]) -> dict[str, int]:
    quantities: dict[str, int] = {}
    for line in lines:
        if line.quantity < 1:
            raise MessageRejected(f"order {order_id}: {line.quantity} of {line.sku} is no quantity")
        quantities[line.sku] = quantities.get(line.sku, 0) + line.quantity
    return quantities
