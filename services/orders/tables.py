"""The tables of orders: the one source of their shape. `migrations/` and `read_migrations/` bring the databases there.

The write side is the event streams; the read side is made from them, and can be made anew.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, text

from caravan.database import tables as sql
from caravan.database.kernel_tables import EventColumns, build_event_arguments
from caravan.database.tables import DeclaredTable, add_ddl, define_column, define_registry
from caravan.events import APPEND_ONLY_DDL


class OrdersTable(DeclaredTable, registry=define_registry("orders")):
    pass


class Event(EventColumns, OrdersTable, table=True):
    __tablename__ = "event"
    __table_args__ = (
        *build_event_arguments(),
        Index("event_trace", "trace_id", postgresql_where=text("version = 1")),  # one entry for each order
    )


for statement in APPEND_ONLY_DDL:
    add_ddl(OrdersTable, statement)


class OrdersReadTable(DeclaredTable, registry=define_registry("orders_read")):
    pass


class OrderSummary(OrdersReadTable, table=True):
    """One row per order, as lists and details show it."""

    __tablename__ = "order_summary"
    __table_args__ = (
        Index("order_summary_owner", "user_id", text("placed_at DESC"), text("id DESC")),
        Index("order_summary_recent", text("placed_at DESC"), text("id DESC")),
        {"postgresql_with": {"fillfactor": "60", "autovacuum_vacuum_cost_delay": "0"}},
    )

    id: UUID = define_column(sql.UUID, primary_key=True)
    user_id: UUID = define_column(sql.UUID)
    total: int = define_column(sql.BIGINT)
    currency: str = define_column(sql.TEXT)
    lines: list[dict[str, Any]] = define_column(sql.JSON)
    shipping_address: dict[str, Any] = define_column(sql.JSON)
    placed_at: datetime = define_column(sql.TIMESTAMPTZ)
    status: str = define_column(sql.TEXT)
    version: int = define_column(sql.INTEGER)
    cancelling: bool = define_column(sql.BOOLEAN)
    reason: str | None = define_column(sql.TEXT)
    invoice_number: str | None = define_column(sql.TEXT)
    tracking_number: str | None = define_column(sql.TEXT)
    refunded: int | None = define_column(sql.BIGINT)
    updated_at: datetime = define_column(sql.TIMESTAMPTZ)
    cancellation: str | None = define_column(sql.TEXT)
    cancellation_reason: str | None = define_column(sql.TEXT)


class Checkpoint(OrdersReadTable, table=True):
    """How far a projection has read the events."""

    __tablename__ = "checkpoint"

    projection: str = define_column(sql.TEXT, primary_key=True)
    transaction: int = define_column(sql.BIGINT)
    position: int = define_column(sql.BIGINT)


BOOKS: dict[str, tuple[str, ...]] = {
    "event": ("stream", "version", "type", "time", "transaction", "position"),
    "order_amount": ("order_id", "amount", "currency", "lines"),
}
"""What reconciliation may read: nothing of persons, and no token."""
