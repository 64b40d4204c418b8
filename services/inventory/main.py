"""The inventory service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from caravan.service import DatabaseDeclaration, Periodic, Service
from services.inventory import messages, use_cases
from services.inventory.api import router
from services.inventory.client import AVAILABILITY
from services.inventory.consumers import consume
from services.inventory.settings import Settings
from services.inventory.use_cases import InventoryContext, Parts


@asynccontextmanager
async def parts(context: InventoryContext) -> AsyncIterator[Parts]:
    yield Parts(context.database)


service = Service(
    "inventory",
    databases=(DatabaseDeclaration("inventory", Path(__file__).parent / "migrations"),),
    routers=(router,),
    consumers=consume,
    channels=messages.CHANNELS,
    operations={AVAILABILITY: use_cases.availability},
    settings=Settings,
    periodic=(Periodic("expire", 1.0, use_cases.expire), Periodic("announce", 0.25, use_cases.announce)),
    parts=parts,
)
