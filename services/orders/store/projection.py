"""The read side as `projections.py` writes it: how far it has read, the summaries of a batch, and a table built anew
beside the live one.

Statements are declared over the live table; `_name_table` makes them those of another one.
"""

from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import bindparam, cast, delete, func, literal, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert

from caravan.database import Database, UnitOfWork
from caravan.database import tables as sql
from caravan.database.conditions import is_among
from caravan.database.query import Query, RowArrays, assign_columns
from caravan.database.tables import col, select_columns
from services.orders.model import Order
from services.orders.store.summaries import STATE_FIELDS, build_order
from services.orders.tables import Checkpoint, OrderSummary

_BY_PROJECTION = col(Checkpoint.projection) == bindparam("projection")
_POSITION = (col(Checkpoint.transaction), col(Checkpoint.position))

_FIND_CHECKPOINT = Query(select(*_POSITION).where(_BY_PROJECTION), lambda *position: position)
_LOCK_CHECKPOINTS = Query(
    select(*_POSITION)
    .where(or_(col(Checkpoint.projection) == "order_summary", _BY_PROJECTION))
    .order_by(col(Checkpoint.projection))
    .with_for_update(),
    lambda *position: position,
)
_MOVE_CHECKPOINT = Query(
    update(Checkpoint)
    .where(
        _BY_PROJECTION,
        col(Checkpoint.transaction) == bindparam("old_transaction"),
        col(Checkpoint.position) == bindparam("old_position"),
    )
    .values(transaction=bindparam("transaction"), position=bindparam("position"))
)
_RESET_CHECKPOINT = Query(
    insert(Checkpoint)
    .values(projection=bindparam("projection"), transaction=0, position=0)
    .on_conflict_do_update(index_elements=["projection"], set_={"transaction": 0, "position": 0})
)
_DELETE_CHECKPOINT = Query(delete(Checkpoint).where(_BY_PROJECTION))
_LOAD_ORDERS = Query(
    select(*select_columns(OrderSummary, ["id", "currency", "refunded", *STATE_FIELDS])).where(
        is_among(col(OrderSummary.id), "orders")
    )
)
_DIGEST = Query(
    select(
        func.count(),
        func.coalesce(
            func.md5(
                func.string_agg(
                    func.md5(cast(literal_column("order_summary"), sql.TEXT)),
                    aggregate_order_by(literal(""), col(OrderSummary.id)),
                )
            ),
            "",
        ),
    ).select_from(OrderSummary)
)
_STATE_READERS: dict[str, Callable[[Order], Any]] = {
    **{name: attrgetter(name) for name in STATE_FIELDS},
    "refunded": lambda order: order.refunded.amount if order.refunded else None,
}
_STATES = RowArrays(OrderSummary, _STATE_READERS, first=2)
_SUMMARIES: RowArrays[Any] = RowArrays(
    OrderSummary,
    {
        "id": attrgetter("created.order_id"),
        "user_id": attrgetter("created.user_id"),
        "total": attrgetter("created.total.amount"),
        "currency": attrgetter("created.total.currency"),
        "lines": lambda order: orjson.dumps([line.model_dump() for line in order.created.lines]).decode(),
        "shipping_address": lambda order: order.created.shipping_address.model_dump_json(),
        "placed_at": attrgetter("created.placed_at"),
        **_STATE_READERS,
    },
)
_INSERT = f"INSERT INTO order_summary ({_SUMMARIES.names}) SELECT * FROM {_SUMMARIES.unnest}"
_UPDATE = (
    f"UPDATE order_summary AS t SET {assign_columns(OrderSummary, _STATES.fields, 'n')}"
    f" FROM ROWS FROM (unnest($1::uuid[]), {_STATES.unnest}) AS n(id, {_STATES.names}) WHERE t.id = n.id"
)


def _name_table(text: str, table: str) -> str:
    return text.replace("order_summary", table)


async def find_checkpoint(read: Database, projection: str) -> tuple[int, int]:
    return await _FIND_CHECKPOINT.fetch_one(read, projection=projection) or (0, 0)


async def move_checkpoint(uow: UnitOfWork, projection: str, old: tuple[int, int], new: tuple[int, int]) -> bool:
    """Whether this reader was the one to move it: another replica may have projected the same events."""
    updated_rows = await _MOVE_CHECKPOINT.execute(
        uow,
        projection=projection,
        old_transaction=old[0],
        old_position=old[1],
        transaction=new[0],
        position=new[1],
    )
    return updated_rows == 1


async def load_orders(uow: UnitOfWork, table: str, orders: Collection[UUID]) -> dict[UUID, Order]:
    """What the read side knows of these orders, enough to apply further events."""
    rows = await uow.fetch(_name_table(_LOAD_ORDERS.text, table), list(orders))
    return {order_id: build_order(*state) for order_id, *state in rows}


async def insert_summaries(uow: UnitOfWork, table: str, orders: Collection[Order]) -> None:
    """Orders that have been created."""
    await uow.execute(_name_table(_INSERT, table), *_SUMMARIES.read_rows(orders))


async def update_summaries(uow: UnitOfWork, table: str, orders: dict[UUID, Order]) -> None:
    await uow.execute(_name_table(_UPDATE, table), list(orders), *_STATES.read_rows(orders.values()))


async def begin_rebuild(read: Database, table: str) -> None:
    """An empty table of the same shape beside the live one."""
    async with read.unit_of_work() as uow:
        await uow.execute(f"DROP TABLE IF EXISTS {table}")
        await uow.execute(f"CREATE TABLE {table} (LIKE order_summary INCLUDING ALL)")
        await _RESET_CHECKPOINT.execute(uow, projection=table)


async def swap_tables(read: Database, table: str) -> tuple[int, bool] | None:
    """Make a rebuilt table the live one if both have read exactly as far: its rows, and whether the live one was equal.
    None when they have not.
    """
    async with read.unit_of_work() as uow:
        checkpoints = await _LOCK_CHECKPOINTS.fetch_all(uow, projection=table)
        if len(checkpoints) != 2 or checkpoints[0] != checkpoints[1]:
            return None
        rebuilt, live = await compute_digest(uow, table), await compute_digest(uow, "order_summary")
        await uow.execute("DROP TABLE order_summary")
        await uow.execute(f"ALTER TABLE {table} RENAME TO order_summary")
        for index in await uow.fetch("SELECT indexname FROM pg_indexes WHERE tablename = 'order_summary'"):
            await uow.execute(f'ALTER INDEX "{index[0]}" RENAME TO "{index[0].replace(table, "order_summary")}"')
        await _DELETE_CHECKPOINT.execute(uow, projection=table)
    return rebuilt[0], rebuilt == live


async def compute_digest(read: Database | UnitOfWork, table: str) -> tuple[int, str]:
    """Number of rows, and a hash over all of them: equal for tables that are equal to the byte."""
    row = await read.fetchrow(_name_table(_DIGEST.text, table))
    assert row is not None
    return row[0], row[1]
