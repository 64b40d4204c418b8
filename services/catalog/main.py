"""The catalog (product) service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from caravan.coalesce import Coalesced
from caravan.service import DatabaseDeclaration, Periodic, Service
from services.catalog import messages, use_cases
from services.catalog.api import categories, listing, products, watches
from services.catalog.client import OFFERS, Offer
from services.catalog.consumers import consume
from services.catalog.settings import Settings


@asynccontextmanager
async def parts(context: use_cases.CatalogContext) -> AsyncIterator[Coalesced[str, Offer]]:
    yield Coalesced(partial(use_cases.offers_of, context.database))


service = Service(
    "catalog",
    databases=(DatabaseDeclaration("catalog", Path(__file__).parent / "migrations"),),
    routers=(listing.router, products.router, watches.router, categories.router),
    consumers=consume,
    channels=messages.CHANNELS,
    operations={OFFERS: use_cases.offers},
    settings=Settings,
    periodic=(Periodic("tell", 5.0, use_cases.tell_watchers),),
    parts=parts,
)
