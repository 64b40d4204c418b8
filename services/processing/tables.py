"""The table of processing: the one source of its shape. `migrations/` brings a database there.

A field that the saga has, too, has the name that `model.py` gives it.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text

from caravan.database import tables as sql
from caravan.database.tables import DeclaredTable, define_column, define_registry


class ProcessingTable(DeclaredTable, registry=define_registry("processing")):
    pass


class Saga(ProcessingTable, table=True):
    """One row per order. Half a page stays free for the new versions of its rows: each is written at every step."""

    __tablename__ = "saga"
    __table_args__ = (
        CheckConstraint("refunded <= captured", name="saga_check"),
        Index("saga_open", "deadline", postgresql_where=text("NOT closed")),
        {"postgresql_with": {"fillfactor": "50", "autovacuum_vacuum_cost_delay": "0"}},
    )

    order_id: UUID = define_column(sql.UUID, primary_key=True)
    order_json: str | None = define_column(sql.JSON, name="created")
    stock: str = define_column(sql.TEXT)
    money: str = define_column(sql.TEXT)
    parcel: str = define_column(sql.TEXT)
    cancel_reason: str | None = define_column(sql.TEXT, name="cancel")
    reason: str = define_column(sql.TEXT)
    captured: int = define_column(sql.BIGINT)
    refunded: int = define_column(sql.BIGINT)
    is_processed: bool = define_column(sql.BOOLEAN, name="processed")
    is_closed: bool = define_column(sql.BOOLEAN, name="closed")
    version: int = define_column(sql.INTEGER)
    started_at: datetime = define_column(sql.TIMESTAMPTZ)
    deadline: datetime | None = define_column(sql.TIMESTAMPTZ)
    reminders: int = define_column(sql.INTEGER, default="0")
    actor: str | None = define_column(sql.TEXT)
    traceparent: str | None = define_column(sql.TEXT)
    cause: UUID | None = define_column(sql.UUID)
    history: str = define_column(sql.JSON, default="'[]'")


BOOKS: dict[str, tuple[str, ...]] = {"saga": ("order_id", "closed", "started_at")}
"""What reconciliation may read: nothing of persons, and no token."""
