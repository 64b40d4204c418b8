"""The order service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from caravan.live_streams import LiveHub
from caravan.service import OUTBOX_STATE, DatabaseDeclaration, PeriodicTask, Service
from services.orders import messages, projections, timeline
from services.orders.api import history, orders
from services.orders.client import GET_ORDER_OWNER, LIST_RECENT_ORDERS
from services.orders.consumers import consume
from services.orders.settings import Settings
from services.orders.tables import BOOKS
from services.orders.use_cases import READ_DATABASE, CustomerStatusCache, OrdersContext, OrdersResources, read, watch

HERE = Path(__file__).parent


@asynccontextmanager
async def open_resources(context: OrdersContext) -> AsyncIterator[OrdersResources]:
    yield OrdersResources(
        CustomerStatusCache(context.call, context.clock, context.settings.customer_status_seconds),
        asyncio.Semaphore(context.settings.placement_concurrency),
        LiveHub(watch.OrderChanges(context.database), context.changes),
    )


service = Service(
    "orders",
    databases=(
        DatabaseDeclaration("orders", HERE / "migrations", readers={"reconciliation": {**OUTBOX_STATE, **BOOKS}}),
        DatabaseDeclaration(READ_DATABASE, HERE / "read_migrations", has_kernel_tables=False),
    ),
    routers=(orders.router, history.router),
    consumers=consume,
    channels=messages.CHANNELS,
    operations=(GET_ORDER_OWNER.bind(read.get_order_owner), LIST_RECENT_ORDERS.bind(read.list_recent_orders)),
    settings=Settings,
    periodic_tasks=(PeriodicTask("project-orders", 0.1, read.update_projection, linger=0.05),),
    projections={"order_summary": projections.rebuild_summaries},
    timeline=timeline.describe_order,
    open_resources=open_resources,
)
