"""What the timeline of an order reads of the ledger; its reservation is found by `reservation_table.py`."""

from uuid import UUID

from sqlalchemy import bindparam, select

from caravan.database import Database
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from services.inventory import tables
from services.inventory.model import Movement

_LIST_MOVEMENTS = Query(
    select(*list_columns(tables.Movement, Movement))
    .where(col(tables.Movement.order_id) == bindparam("order_id"))
    .order_by(col(tables.Movement.sku), col(tables.Movement.version)),
    Movement,
)


async def list_movements(database: Database, order_id: UUID) -> list[Movement]:
    """By sku, in the order of the ledger."""
    return await _LIST_MOVEMENTS.fetch_all(database, order_id=order_id)
