"""The order service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from caravan.service import DatabaseDeclaration, Periodic, Service
from services.orders import messages, projections
from services.orders.api import router
from services.orders.client import OWNER, RECENT
from services.orders.consumers import consume
from services.orders.settings import Settings
from services.orders.use_cases import READ, OrdersContext, Parts, Standings, read

HERE = Path(__file__).parent


@asynccontextmanager
async def parts(context: OrdersContext) -> AsyncIterator[Parts]:
    yield Parts(Standings(context.calls, context.clock, context.settings.standing_seconds), asyncio.Semaphore(context.settings.at_once))


service = Service(
    "orders",
    databases=(DatabaseDeclaration("orders", HERE / "migrations"), DatabaseDeclaration(READ, HERE / "read_migrations", kernel=False)),
    routers=(router,),
    consumers=consume,
    channels=messages.CHANNELS,
    operations={OWNER: read.owner, RECENT: read.recent},
    settings=Settings,
    periodic=(Periodic("project", 0.1, read.project, linger=0.05),),
    projections={"order_summary": projections.rebuild_live},
    parts=parts,
)
