"""The event streams of orders, the write side: use cases lock and read them here, and append by the model's
`EVENT_STORE`.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, select

from caravan.database import Database, UnitOfWork
from caravan.database import tables as sql
from caravan.database.conditions import is_among
from caravan.database.query import Query
from caravan.database.tables import col
from caravan.events import RecordedEvent
from services.orders.model import EVENT_STORE, Order, fold_events
from services.orders.tables import Event

_LOCK = Query(
    select(col(Event.version))
    .where(is_among(col(Event.stream), "orders"), col(Event.version) == 1)
    .order_by(col(Event.stream))
    .with_for_update(key_share=True)
)

_LIST_PLACED = Query(
    select(col(Event.stream))
    .where(col(Event.version) == 1, col(Event.trace_id) == bindparam("trace_id", type_=sql.TEXT))
    .limit(bindparam("limit")),
    UUID,
)
MAX_PLACED = 1000


async def list_placed_orders(database: Database, trace_id: str) -> list[UUID]:
    """The orders that were placed in a trace."""
    return await _LIST_PLACED.fetch_values(database, trace_id=trace_id, limit=MAX_PLACED)


async def lock_orders(uow: UnitOfWork, orders: Collection[UUID]) -> dict[UUID, Order]:
    """The orders as they are now, locked through their first event, in the order of their ids."""
    await _LOCK.execute(uow, orders=list(orders))
    streams = await EVENT_STORE.load_streams(uow, list(orders))
    return {
        order_id: fold_events((recorded.event, recorded.time) for recorded in recorded_events)
        for order_id, recorded_events in streams.items()
    }


async def load_versions(database: Database, orders: Collection[UUID]) -> dict[UUID, int]:
    """The newest version of each order."""
    rows = await database.fetch(
        "SELECT stream, max(version) AS version FROM event WHERE stream = ANY($1) GROUP BY stream", list(orders)
    )
    return {row["stream"]: row["version"] for row in rows}


async def load_events(
    database: Database, order_id: UUID, *, until: datetime | None = None, version: int | None = None
) -> list[RecordedEvent]:
    return (await EVENT_STORE.load_streams(database, [order_id], until=until, version=version)).get(order_id, [])
