"""The read side: kept up to date, and waited for by who wants to see what was written just now."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import asyncpg

from caravan.auth import Caller
from caravan.clock import made_at
from caravan.errors import Conflict, NotFound
from services.orders import projections, store
from services.orders.client import OrderSummary, Owner, OwnerRequest, RecentOrders, RecentRequest
from services.orders.use_cases import READ, OrdersContext

JUST_NOW = timedelta(seconds=10)
FIRST_PAUSE_SECONDS = 0.1
"""Between two looks at the read side while no hint says that it has moved; it doubles, so that who waits for what never comes asks little."""


async def project(context: OrdersContext) -> bool:
    """Bring the read side up to date and tell those who watch."""
    count, touched = await projections.advance(context.database, context.databases[READ])
    if touched:
        await context.live.publish("orders", touched)
    return count > 0


async def read_order(context: OrdersContext, caller: Caller, order_id: UUID, min_version: int | None) -> asyncpg.Record:
    """The order from the read side, which has reached `min_version`, or has had a moment for an order placed just now."""
    read = context.databases[READ]
    row = await store.summary(read, order_id)
    if row is None or (min_version is not None and row["version"] < min_version):
        row = await _wait_for(context, order_id, min_version, row)
    if row is None or not caller.may_see(row["user_id"]):
        raise NotFound(f"no order {order_id}")
    if min_version is not None and row["version"] < min_version:
        raise Conflict(f"order {order_id} has not reached version {min_version}: it is at {row['version']}", headers={"Retry-After": "1"})
    return row


async def _wait_for(context: OrdersContext, order_id: UUID, min_version: int | None, row: asyncpg.Record | None) -> asyncpg.Record | None:
    made = made_at(order_id)
    now = context.clock()
    if row is None and (made is None or not now - JUST_NOW < made < now + JUST_NOW):
        return None
    loop = asyncio.get_running_loop()
    end = loop.time() + context.settings.read_seconds
    pause = FIRST_PAUSE_SECONDS
    async with context.live.listen("orders", str(order_id)) as changed:
        while True:
            changed.clear()
            row = await store.summary(context.databases[READ], order_id)
            if (row is not None and row["version"] >= (min_version or 1)) or loop.time() >= end:
                return row
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(loop.time() + pause, end)):
                    await changed.wait()
            pause *= 2


async def owner(context: OrdersContext, request: OwnerRequest) -> Owner:
    user_id = await store.owner(context.databases[READ], request.order_id)
    if user_id is None:
        raise NotFound(f"no order {request.order_id}")
    return Owner(user_id=user_id)


async def recent(context: OrdersContext, request: RecentRequest) -> RecentOrders:
    rows = await store.page(context.databases[READ], request.user_id, None, None, request.limit)
    items = [
        OrderSummary(
            id=row["id"], status=row["status"], total=row["total"], currency=row["currency"], placed_at=row["placed_at"].isoformat()
        )
        for row in rows
    ]
    return RecentOrders(items=items)
