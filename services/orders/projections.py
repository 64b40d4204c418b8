"""The read side: events in, rows out. The live table and a rebuilt one go through the same code, so they can be compared to the byte."""

from collections.abc import Callable, Mapping
from uuid import UUID

from caravan import crash
from caravan.database import Database
from caravan.events import Recorded
from caravan.service import Rebuilt
from services.orders import store
from services.orders.messages import OrderCreated
from services.orders.model import STORE, Order

LIVE = "order_summary"
BATCH = 500
SWAP_ATTEMPTS = 200


async def advance(write: Database, read: Database, table: str = LIVE) -> tuple[int, list[str]]:
    """Read the next events into a table; how many there were, and which orders they touched."""
    place = await store.checkpoint(read, table)
    events = await STORE.after(write, place, BATCH)
    if not events:
        return 0, []
    touched = {recorded.stream for recorded in events}
    async with read.work() as work:
        if not await store.move_checkpoint(work, table, place, events[-1].place):
            return len(events), []  # another replica was faster: go on from where it is
        known = await store.states(work, table, touched)
        made, changed = _apply(events, known)
        if made:
            await store.insert_summaries(work, table, made)
        crash.point("projection.mid_batch")
        if changed:
            await store.update_summaries(work, table, changed)
    return len(events), [str(order_id) for order_id in touched]


def _apply(events: list[Recorded], known: dict[UUID, Order]) -> tuple[dict[UUID, tuple[OrderCreated, Order]], dict[UUID, Order]]:
    made: dict[UUID, tuple[OrderCreated, Order]] = {}
    changed: dict[UUID, Order] = {}
    for recorded in events:
        if isinstance(recorded.event, OrderCreated):
            order = Order()
            made[recorded.stream] = (recorded.event, order)
        elif recorded.stream in made:
            order = made[recorded.stream][1]
        else:
            order = changed[recorded.stream] = known[recorded.stream]
        order.apply(recorded.event, recorded.time)
    return made, changed


async def rebuild(write: Database, read: Database, table: str, progress: Callable[[int], None]) -> int:
    """Fill an empty table from the first event on, while orders go on; the number of events read."""
    await store.begin_rebuild(read, table)
    total = 0
    while True:
        count, _ = await advance(write, read, table)
        total += count
        progress(total)
        if count < BATCH:
            return total


async def rebuild_live(databases: Mapping[str, Database], progress: Callable[[int], None]) -> Rebuilt:
    """Build the order summaries anew, compare them with the live ones at the same event, and put them in their place."""
    write, read = databases["orders"], databases["orders_read"]
    table = "order_summary_rebuilt"
    events = await rebuild(write, read, table, progress)
    for _ in range(SWAP_ATTEMPTS):
        swapped = await store.swap(read, table)
        if swapped is not None:
            return Rebuilt(events, *swapped)
        count, _ = await advance(write, read, table)
        await advance(write, read)
        events += count
    raise RuntimeError("the live projection never stood where the rebuilt one does: is its event store the same?")
