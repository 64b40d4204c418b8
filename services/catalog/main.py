"""The catalog (product) service."""

from pathlib import Path

from caravan.service import DatabaseDeclaration, Periodic, Service
from services.catalog import messages, use_cases
from services.catalog.api import categories, listing, products, watches
from services.catalog.client import OFFERS
from services.catalog.consumers import consume
from services.catalog.settings import Settings

service = Service(
    "catalog",
    databases=(DatabaseDeclaration("catalog", Path(__file__).parent / "migrations"),),
    routers=(listing.router, products.router, watches.router, categories.router),
    consumers=consume,
    channels=messages.CHANNELS,
    operations={OFFERS: use_cases.offers},
    settings=Settings,
    periodic=(Periodic("tell", 5.0, use_cases.tell_watchers),),
)
