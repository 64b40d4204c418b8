"""The catalog (product) service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from caravan.concurrency import DataLoader
from caravan.service import OUTBOX_STATE, DatabaseDeclaration, PeriodicTask, Service
from services.catalog import caches, messages
from services.catalog.api import categories, listing, products, watches
from services.catalog.client import GET_OFFERS, Offer
from services.catalog.consumers import consume
from services.catalog.settings import Settings
from services.catalog.use_cases import CatalogContext, read, watch


@asynccontextmanager
async def open_resources(context: CatalogContext) -> AsyncIterator[DataLoader[str, Offer]]:
    yield DataLoader(partial(read.fetch_offers, context.database))


service = Service(
    "catalog",
    databases=(
        DatabaseDeclaration("catalog", Path(__file__).parent / "migrations", readers={"reconciliation": OUTBOX_STATE}),
    ),
    routers=(listing.router, products.router, watches.router, categories.router),
    consumers=consume,
    channels=messages.CHANNELS,
    operations=(GET_OFFERS.bind(read.get_offers),),
    caches=caches.CACHES,
    settings=Settings,
    periodic_tasks=(PeriodicTask("notify-watchers", 5.0, watch.notify_watchers),),
    open_resources=open_resources,
)
