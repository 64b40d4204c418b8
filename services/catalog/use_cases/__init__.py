"""The use cases of catalog: `change` products and categories, `read` offers, `watch` products."""

from caravan.concurrency import DataLoader
from caravan.service import ServiceContext
from services.catalog.client import Offer
from services.catalog.settings import Settings

CatalogContext = ServiceContext[Settings, DataLoader[str, Offer]]
