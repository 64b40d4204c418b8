"""The tables of inventory: the one source of their shape. `migrations/` brings a database there.

The laws of stock stand as constraints: no statement can break them, whoever sends it.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text

from caravan.database import tables as sql
from caravan.database.tables import DeclaredTable, add_ddl, define_column, define_registry


class InventoryTable(DeclaredTable, registry=define_registry("inventory")):
    pass


class Stock(InventoryTable, table=True):
    """`version` is the number of movements of the sku, `announced` the version last sent to `stock-changed`; `adjusted`
    is the sum of adjustments and of what counts found more or less.
    """

    __tablename__ = "stock"
    __table_args__ = (
        CheckConstraint("on_hand >= 0", name="stock_on_hand_check"),
        CheckConstraint("reserved >= 0", name="stock_reserved_check"),
        CheckConstraint("shipped >= 0", name="stock_shipped_check"),
        CheckConstraint("received >= 0", name="stock_received_check"),
        CheckConstraint("reserved <= on_hand", name="stock_not_oversold"),
        CheckConstraint("on_hand + shipped = received + adjusted", name="stock_law"),
        {"postgresql_with": {"fillfactor": "50", "autovacuum_vacuum_cost_delay": "0"}},
    )

    sku: str = define_column(sql.TEXT, primary_key=True)
    on_hand: int = define_column(sql.BIGINT, default="0")
    reserved: int = define_column(sql.BIGINT, default="0")
    shipped: int = define_column(sql.BIGINT, default="0")
    received: int = define_column(sql.BIGINT, default="0")
    adjusted: int = define_column(sql.BIGINT, default="0")
    version: int = define_column(sql.BIGINT, default="0")
    announced: int = define_column(sql.BIGINT, default="0")


class Movement(InventoryTable, table=True):
    """The ledger of stock."""

    __tablename__ = "movement"
    __table_args__ = (
        CheckConstraint("version > 0", name="movement_version_check"),
        CheckConstraint(
            "kind IN ('receive', 'adjust', 'count', 'return', 'reserve', 'release', 'ship')", name="movement_kind_check"
        ),
        Index(
            "movement_order",
            "order_id",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 32, "autosummarize": "true"},
        ),
    )

    sku: str = define_column(sql.TEXT, primary_key=True)
    version: int = define_column(sql.BIGINT, primary_key=True)
    kind: str = define_column(sql.TEXT)
    quantity: int = define_column(sql.BIGINT)
    on_hand: int = define_column(sql.BIGINT)
    reserved: int = define_column(sql.BIGINT)
    order_id: UUID | None = define_column(sql.UUID)
    actor: str = define_column(sql.TEXT)
    reason: str = define_column(sql.TEXT)
    time: datetime = define_column(sql.TIMESTAMPTZ)


add_ddl(
    InventoryTable,
    """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the ledger is append-only: % on % refused', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'restrict_violation';
        END $$
    """,
)
add_ddl(
    InventoryTable,
    "CREATE TRIGGER movement_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON movement"
    " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
)


class Reservation(InventoryTable, table=True):
    __tablename__ = "reservation"
    __table_args__ = (
        CheckConstraint("state IN ('held', 'released', 'shipped', 'rejected')", name="reservation_state_check"),
        Index("reservation_expiring", "expires_at", postgresql_where=text("state = 'held' AND expires_at IS NOT NULL")),
        {"postgresql_with": {"fillfactor": "70", "autovacuum_vacuum_cost_delay": "0"}},
    )

    order_id: UUID = define_column(sql.UUID, primary_key=True)
    state: str = define_column(sql.TEXT)
    lines: dict[str, int] = define_column(sql.JSON)
    shortages: list[dict[str, Any]] = define_column(sql.JSON)
    reason: str = define_column(sql.TEXT)
    expires_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    created_at: datetime = define_column(sql.TIMESTAMPTZ)
    updated_at: datetime = define_column(sql.TIMESTAMPTZ)


class MovementReference(InventoryTable, table=True):
    """References of movements that happen once, however long ago they were made."""

    __tablename__ = "movement_reference"

    reference: str = define_column(sql.TEXT, primary_key=True)
    recorded_at: datetime = define_column(sql.TIMESTAMPTZ)


BOOKS: dict[str, tuple[str, ...]] = {
    "stock": ("sku", "on_hand", "reserved", "shipped", "received", "adjusted", "version"),
    "movement": ("sku", "version", "kind", "quantity"),
    "reservation": ("order_id", "state", "lines", "updated_at"),
}
"""What reconciliation may read: nothing of persons, and no token."""
