"""The read side: events in, rows out. The live table and a rebuilt one go through the same code, so that they can be
compared byte by byte.
"""

from collections.abc import Callable, Mapping
from uuid import UUID

from caravan import failpoint
from caravan.database import Database
from caravan.events import RecordedEvent
from caravan.service import RebuildResult
from services.orders.messages import OrderCreated
from services.orders.model import EVENT_STORE, Order
from services.orders.store import projection

LIVE_TABLE = "order_summary"
BATCH_SIZE = 500
SWAP_ATTEMPTS = 200


async def project_events(write: Database, read: Database, table: str = LIVE_TABLE) -> tuple[int, list[str]]:
    """Read the next events into a table; how many there were, and which orders they touched."""
    position = await projection.find_checkpoint(read, table)
    events = await EVENT_STORE.read_feed(write, position, BATCH_SIZE)
    if not events:
        return 0, []
    order_ids = {recorded.stream for recorded in events}
    async with read.unit_of_work() as uow:
        if not await projection.move_checkpoint(uow, table, position, events[-1].feed_position):
            return len(events), []  # another replica was faster: go on from where it is
        orders = await projection.load_orders(uow, table, order_ids)
        created, updated = _apply_events(events, orders)
        if created:
            await projection.insert_summaries(uow, table, created.values())
        failpoint.hit("projection.mid_batch")
        if updated:
            await projection.update_summaries(uow, table, updated)
    return len(events), [str(order_id) for order_id in order_ids]


def _apply_events(
    events: list[RecordedEvent], orders: dict[UUID, Order]
) -> tuple[dict[UUID, Order], dict[UUID, Order]]:
    created: dict[UUID, Order] = {}
    updated: dict[UUID, Order] = {}
    for recorded in events:
        if isinstance(recorded.event, OrderCreated):
            order = created[recorded.stream] = Order()
        elif recorded.stream in created:
            order = created[recorded.stream]
        else:
            order = updated[recorded.stream] = orders[recorded.stream]
        order.apply(recorded.event, recorded.time)
    return created, updated


async def rebuild_table(write: Database, read: Database, table: str, progress: Callable[[int], None]) -> int:
    """Fill an empty table from the first event on, while orders go on; the number of events read."""
    await projection.begin_rebuild(read, table)
    total = 0
    while True:
        count, _ = await project_events(write, read, table)
        total += count
        progress(total)
        if count < BATCH_SIZE:
            return total


async def rebuild_summaries(databases: Mapping[str, Database], progress: Callable[[int], None]) -> RebuildResult:
    """Build the order summaries anew, compare them with the live ones at the same event, and put them in their
    place.
    """
    write, read = databases["orders"], databases["orders_read"]
    table = "order_summary_rebuilt"
    events = await rebuild_table(write, read, table, progress)
    for _ in range(SWAP_ATTEMPTS):
        result = await projection.swap_tables(read, table)
        if result is not None:
            return RebuildResult(events, *result)
        count, _ = await project_events(write, read, table)
        await project_events(write, read)
        events += count
    raise RuntimeError("the live projection never stood where the rebuilt one does: is its event store the same?")
