"""The read side as `projections.py` writes it: how far it has read, the summaries of a batch, and a table built anew
beside the live one.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

import orjson

from caravan.database import Database, UnitOfWork
from caravan.money import Money
from services.orders.messages import OrderCreated
from services.orders.model import Order


async def find_checkpoint(read: Database, projection: str) -> tuple[int, int]:
    row = await read.fetchrow("SELECT transaction, position FROM checkpoint WHERE projection = $1", projection)
    return (row[0], row[1]) if row else (0, 0)


async def move_checkpoint(uow: UnitOfWork, projection: str, old: tuple[int, int], new: tuple[int, int]) -> bool:
    """Whether this reader was the one to move it: another replica may have projected the same events."""
    updated_rows = await uow.execute(
        "UPDATE checkpoint SET transaction = $4, position = $5"
        " WHERE projection = $1 AND transaction = $2 AND position = $3",
        projection,
        *old,
        *new,
    )
    return updated_rows == 1


async def load_orders(uow: UnitOfWork, table: str, orders: Collection[UUID]) -> dict[UUID, Order]:
    """What the read side knows of these orders, enough to apply further events."""
    rows = await uow.fetch(
        "SELECT id, status, version, cancelling, cancellation, cancellation_reason, reason, invoice_number,"
        f" tracking_number, refunded, currency, updated_at FROM {table} WHERE id = ANY($1)",
        list(orders),
    )
    return {
        row["id"]: Order(
            status=row["status"],
            version=row["version"],
            cancelling=row["cancelling"],
            cancellation=row["cancellation"],
            cancellation_reason=row["cancellation_reason"],
            reason=row["reason"],
            invoice_number=row["invoice_number"],
            tracking_number=row["tracking_number"],
            refunded=Money(amount=row["refunded"], currency=row["currency"]) if row["refunded"] is not None else None,
            updated_at=row["updated_at"],
        )
        for row in rows
    }


MUTABLE_COLUMNS = (
    ("status", "text"),
    ("version", "int"),
    ("cancelling", "bool"),
    ("cancellation", "text"),
    ("cancellation_reason", "text"),
    ("reason", "text"),
    ("invoice_number", "text"),
    ("tracking_number", "text"),
    ("refunded", "bigint"),
    ("updated_at", "timestamptz"),
)


def _to_mutable_columns(orders: Collection[Order]) -> list[list[Any]]:
    return [
        [order.status for order in orders],
        [order.version for order in orders],
        [order.cancelling for order in orders],
        [order.cancellation for order in orders],
        [order.cancellation_reason for order in orders],
        [order.reason for order in orders],
        [order.invoice_number for order in orders],
        [order.tracking_number for order in orders],
        [order.refunded.amount if order.refunded else None for order in orders],
        [order.updated_at for order in orders],
    ]


async def insert_summaries(uow: UnitOfWork, table: str, orders: dict[UUID, tuple[OrderCreated, Order]]) -> None:
    created = [event for event, _ in orders.values()]
    column_types = (
        "uuid",
        "uuid",
        "bigint",
        "text",
        "json",
        "json",
        "timestamptz",
        *(kind for _, kind in MUTABLE_COLUMNS),
    )
    columns = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(column_types, 1))
    await uow.execute(
        f"INSERT INTO {table} (id, user_id, total, currency, lines, shipping_address, placed_at,"
        f" {', '.join(name for name, _ in MUTABLE_COLUMNS)}) SELECT * FROM unnest({columns})",
        list(orders),
        [event.user_id for event in created],
        [event.total.amount for event in created],
        [event.total.currency for event in created],
        [orjson.dumps([line.model_dump() for line in event.lines]).decode() for event in created],
        [event.shipping_address.model_dump_json() for event in created],
        [event.placed_at for event in created],
        *_to_mutable_columns([order for _, order in orders.values()]),
    )


async def update_summaries(uow: UnitOfWork, table: str, orders: dict[UUID, Order]) -> None:
    columns = ", ".join(f"${number}::{kind}[]" for number, (_, kind) in enumerate(MUTABLE_COLUMNS, 2))
    names = [name for name, _ in MUTABLE_COLUMNS]
    await uow.execute(
        f"UPDATE {table} AS t SET {', '.join(f'{name} = n.{name}' for name in names)}"
        f" FROM unnest($1::uuid[], {columns}) AS n(id, {', '.join(names)}) WHERE t.id = n.id",
        list(orders),
        *_to_mutable_columns(orders.values()),
    )


async def begin_rebuild(read: Database, table: str) -> None:
    """An empty table of the same shape beside the live one."""
    async with read.unit_of_work() as uow:
        await uow.execute(f"DROP TABLE IF EXISTS {table}")
        await uow.execute(f"CREATE TABLE {table} (LIKE order_summary INCLUDING ALL)")
        await uow.execute(
            "INSERT INTO checkpoint VALUES ($1, 0, 0) ON CONFLICT (projection) DO UPDATE"
            " SET transaction = 0, position = 0",
            table,
        )


async def swap_tables(read: Database, table: str) -> tuple[int, bool] | None:
    """Make a rebuilt table the live one if both have read exactly as far: its rows, and whether the live one was equal.
    None when they have not.
    """
    async with read.unit_of_work() as uow:
        checkpoints = await uow.fetch(
            "SELECT transaction, position FROM checkpoint WHERE projection IN ('order_summary', $1)"
            " ORDER BY projection FOR UPDATE",
            table,
        )
        if len(checkpoints) != 2 or tuple(checkpoints[0]) != tuple(checkpoints[1]):
            return None
        rebuilt, live = await compute_digest(uow, table), await compute_digest(uow, "order_summary")
        await uow.execute("DROP TABLE order_summary")
        await uow.execute(f"ALTER TABLE {table} RENAME TO order_summary")
        for index in await uow.fetch("SELECT indexname FROM pg_indexes WHERE tablename = 'order_summary'"):
            await uow.execute(f'ALTER INDEX "{index[0]}" RENAME TO "{index[0].replace(table, "order_summary")}"')
        await uow.execute("DELETE FROM checkpoint WHERE projection = $1", table)
    return rebuilt[0], rebuilt == live


async def compute_digest(read: Database | UnitOfWork, table: str) -> tuple[int, str]:
    """Number of rows, and a hash over all of them: equal for tables that are equal to the byte."""
    row = await read.fetchrow(
        f"SELECT count(*), coalesce(md5(string_agg(md5(t::text), '' ORDER BY id)), '') FROM {table} AS t"
    )
    assert row is not None
    return row[0], row[1]
