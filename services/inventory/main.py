"""The inventory service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from caravan.concurrency import DataLoader
from caravan.live_streams import LiveHub
from caravan.service import OUTBOX_STATE, DatabaseDeclaration, PeriodicTask, Service
from services.inventory import messages, timeline
from services.inventory.api import router
from services.inventory.client import GET_AVAILABILITY
from services.inventory.consumers import consume
from services.inventory.settings import Settings
from services.inventory.tables import BOOKS
from services.inventory.use_cases import InventoryContext, InventoryResources, announce, read, release, watch

GAP_SECONDS = 0.1
"""A sku that everybody buys changes hundreds of times a second; who watches it sees ten."""


@asynccontextmanager
async def open_resources(context: InventoryContext) -> AsyncIterator[InventoryResources]:
    yield InventoryResources(
        DataLoader(partial(read.fetch_availability, context.database)),
        LiveHub(
            watch.StockChanges(context.database),
            context.changes,
            stream_seconds=context.settings.stream_seconds,
            gap_seconds=GAP_SECONDS,
        ),
    )


service = Service(
    "inventory",
    databases=(
        DatabaseDeclaration(
            "inventory",
            Path(__file__).parent / "migrations",
            readers={"reconciliation": {**OUTBOX_STATE, **BOOKS}},
        ),
    ),
    routers=(router,),
    consumers=consume,
    channels=messages.CHANNELS,
    operations=(GET_AVAILABILITY.bind(read.get_availability),),
    settings=Settings,
    periodic_tasks=(
        PeriodicTask("release-expired", 1.0, release.release_expired_reservations),
        PeriodicTask("publish-stock", 0.25, announce.publish_stock_changes),
    ),
    timeline=timeline.describe_stock,
    open_resources=open_resources,
)
