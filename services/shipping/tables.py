"""The table of shipping: the one source of its shape. `migrations/` brings a database there."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text

from caravan.database import tables as sql
from caravan.database.tables import DeclaredTable, define_column, define_registry


class ShippingTable(DeclaredTable, registry=define_registry("shipping")):
    pass


class Shipment(ShippingTable, table=True):
    """A shipment is updated four times within seconds of being made: room in the page keeps the new versions there."""

    __tablename__ = "shipment"
    __table_args__ = (
        CheckConstraint(
            "status IN ('requested', 'booking', 'shipped', 'delivered', 'cancelled')", name="shipment_status_check"
        ),
        CheckConstraint(
            "(due_at IS NOT NULL) = (status IN ('requested', 'booking', 'shipped'))", name="shipment_check"
        ),
        Index("shipment_leaving", "due_at", postgresql_where=text("status IN ('requested', 'booking')")),
        Index("shipment_travelling", "due_at", postgresql_where=text("status = 'shipped'")),
        {"postgresql_with": {"fillfactor": "60"}},
    )

    order_id: UUID = define_column(sql.UUID, primary_key=True)
    status: str = define_column(sql.TEXT)
    email: str = define_column(sql.TEXT, default="''")
    recipient: str = define_column(sql.TEXT, default="''")
    address: str = define_column(sql.TEXT, default="''")
    parcels: list[dict[str, Any]] = define_column(sql.JSON, default="'[]'")
    carrier: str = define_column(sql.TEXT, default="''")
    tracking_number: str = define_column(sql.TEXT, default="''")
    due_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    traceparent: str | None = define_column(sql.TEXT)
    actor: str | None = define_column(sql.TEXT)
    cause: UUID | None = define_column(sql.UUID)
    requested_at: datetime = define_column(sql.TIMESTAMPTZ)
    shipped_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    delivered_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    cancelled_at: datetime | None = define_column(sql.TIMESTAMPTZ)


BOOKS: dict[str, tuple[str, ...]] = {
    "shipment": ("order_id", "status", "parcels", "requested_at", "shipped_at", "delivered_at", "cancelled_at")
}
"""What reconciliation may read: nothing of persons, and no token."""
