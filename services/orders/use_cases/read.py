"""The read side: keeps its tables up to date, and waits for a version that a client has just written."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from caravan.auth import Caller
from caravan.clock import get_creation_time
from caravan.database import CONNECTION_LOST
from caravan.errors import Conflict, NotFound, Problem
from services.orders import projections
from services.orders.client import OrderOwner, OrderOwnerRequest, OrderSummary, RecentOrders, RecentOrdersRequest
from services.orders.store import summaries
from services.orders.store.summaries import Summary
from services.orders.use_cases import READ_DATABASE, OrdersContext

RECENT_ORDER_AGE = timedelta(seconds=10)
FIRST_PAUSE_SECONDS = 0.1
"""Between two looks at the read side while no hint says that it has moved; it doubles, so that who waits for what never
comes asks little.
"""


async def update_projection(context: OrdersContext) -> bool:
    """Bring the read side up to date and tell those who watch."""
    count, order_ids = await projections.project_events(context.database, context.databases[READ_DATABASE])
    if order_ids:
        await context.changes.publish("orders", order_ids)
    return count > 0


async def read_order(context: OrdersContext, caller: Caller, order_id: UUID, min_version: int | None) -> Summary:
    """The order from the read side, which has reached `min_version`, or has had a moment for an order placed just
    now.
    """
    summary = await _find_at_version(context, order_id, min_version)
    if summary is None or not caller.can_see(summary.placed.user_id):
        raise NotFound(f"no order {order_id}")
    if min_version is not None and summary.order.version < min_version:
        raise Conflict(
            f"order {order_id} has not reached version {min_version}: it is at {summary.order.version}",
            headers={"Retry-After": "1"},
        )
    return summary


async def give_time_to_show(context: OrdersContext, order_id: UUID, version: int) -> None:
    """Let the read side reach a version that was just written, so that what the writer reads next is no older. One that
    is late or away changes nothing about what was written.
    """
    with suppress(Problem, *CONNECTION_LOST):
        await _find_at_version(context, order_id, version)


async def _find_at_version(context: OrdersContext, order_id: UUID, min_version: int | None) -> Summary | None:
    summary = await summaries.find_summary(context.databases[READ_DATABASE], order_id)
    if summary is None or (min_version is not None and summary.order.version < min_version):
        return await _wait_for_version(context, order_id, min_version, summary)
    return summary


async def _wait_for_version(
    context: OrdersContext, order_id: UUID, min_version: int | None, summary: Summary | None
) -> Summary | None:
    created_at = get_creation_time(order_id)
    now = context.clock()
    if summary is None and (created_at is None or not now - RECENT_ORDER_AGE < created_at < now + RECENT_ORDER_AGE):
        return None
    loop = asyncio.get_running_loop()
    wait_end = loop.time() + context.settings.read_seconds
    pause = FIRST_PAUSE_SECONDS
    async with context.changes.listen("orders", str(order_id)) as change_signal:
        while True:
            change_signal.clear()
            summary = await summaries.find_summary(context.databases[READ_DATABASE], order_id)
            if (summary is not None and summary.order.version >= (min_version or 1)) or loop.time() >= wait_end:
                return summary
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(loop.time() + pause, wait_end)):
                    await change_signal.wait()
            pause *= 2


async def get_order_owner(context: OrdersContext, request: OrderOwnerRequest) -> OrderOwner:
    user_id = await summaries.find_owner(context.databases[READ_DATABASE], request.order_id)
    if user_id is None:
        raise NotFound(f"no order {request.order_id}")
    return OrderOwner(user_id=user_id)


async def list_recent_orders(context: OrdersContext, request: RecentOrdersRequest) -> RecentOrders:
    rows = await summaries.list_orders(
        context.databases[READ_DATABASE], summaries.Filter(request.user_id), None, request.limit
    )
    items = [
        OrderSummary(
            id=row.id,
            status=row.status,
            total=row.total,
            currency=row.currency,
            placed_at=row.placed_at.isoformat(),
        )
        for row in rows
    ]
    return RecentOrders(items=items)
