"""The tables of analytics: the one source of their shape. `migrations/` brings a database there."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, text

from caravan.database import tables as sql
from caravan.database.tables import DeclaredTable, add_ddl, define_column, define_registry


class AnalyticsTable(DeclaredTable, registry=define_registry("analytics")):
    pass


class OrderFact(AnalyticsTable, table=True):
    """A fact is updated about five times within seconds of being made: room in the page keeps the new versions there,
    and nothing that changes is indexed.
    """

    __tablename__ = "order_fact"
    __table_args__ = (
        Index("order_fact_placed_at", "placed_at"),
        {"postgresql_with": {"fillfactor": "50", "autovacuum_vacuum_cost_delay": "0"}},
    )

    order_id: UUID = define_column(sql.UUID, primary_key=True)
    user_id: UUID | None = define_column(sql.UUID)
    placed_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    total: int | None = define_column(sql.BIGINT)
    currency: str | None = define_column(sql.TEXT)
    units: int | None = define_column(sql.BIGINT)
    outcome: str | None = define_column(sql.TEXT)
    processed_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    captured: int = define_column(sql.BIGINT, default="0")
    paid_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    refunded: int = define_column(sql.BIGINT, default="0")
    refunded_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    shipped_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    delivered_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    cancelled_at: datetime | None = define_column(sql.TIMESTAMPTZ)


class Sale(AnalyticsTable, table=True):
    """Updated about once, when it is paid; what then changes is not indexed."""

    __tablename__ = "sale"
    __table_args__ = (
        Index("sale_placed_at", "placed_at"),
        Index("sale_user", "user_id", "placed_at"),
        Index("sale_refunded_at", "refunded_at", postgresql_where=text("refunded_at IS NOT NULL")),
        {"postgresql_with": {"fillfactor": "60", "autovacuum_vacuum_cost_delay": "0"}},
    )

    order_id: UUID = define_column(sql.UUID, primary_key=True)
    user_id: UUID | None = define_column(sql.UUID)
    placed_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    country: str | None = define_column(sql.TEXT)
    currency: str | None = define_column(sql.TEXT)
    total: int | None = define_column(sql.BIGINT)
    units: int | None = define_column(sql.BIGINT)
    captured: int = define_column(sql.BIGINT, default="0")
    paid_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    refunded: int = define_column(sql.BIGINT, default="0")
    refunded_at: datetime | None = define_column(sql.TIMESTAMPTZ)


class OrderLineFact(AnalyticsTable, table=True):
    """The lines of a sale."""

    __tablename__ = "order_line_fact"

    order_id: UUID = define_column(sql.UUID, primary_key=True)
    line: int = define_column(sql.INTEGER, primary_key=True)
    sku: str = define_column(sql.TEXT)
    name: str = define_column(sql.TEXT)
    category: str = define_column(sql.TEXT)
    quantity: int = define_column(sql.BIGINT)
    unit_price: int = define_column(sql.BIGINT)


class DailyReport(AnalyticsTable, table=True):
    __tablename__ = "daily_report"

    day: date = define_column(sql.DATE, primary_key=True)
    document: dict[str, Any] = define_column(sql.JSONB)
    revision: int = define_column(sql.INTEGER, default="1")
    written_at: datetime = define_column(sql.TIMESTAMPTZ)


class AuditRecord(AnalyticsTable, table=True):
    __tablename__ = "audit_record"
    __table_args__ = (
        Index("audit_record_time", "time", "id"),
        *(Index(f"audit_record_{column}", column, "time", "id") for column in ("actor", "action", "target")),
    )

    id: UUID = define_column(sql.UUID, primary_key=True)
    time: datetime = define_column(sql.TIMESTAMPTZ)
    actor: str = define_column(sql.TEXT)
    action: str = define_column(sql.TEXT)
    target: str = define_column(sql.TEXT)
    result: str = define_column(sql.TEXT)
    details: dict[str, Any] = define_column(sql.JSON)
    trace_id: str | None = define_column(sql.TEXT)


add_ddl(
    AnalyticsTable,
    """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the audit log is append-only: % on % refused', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'restrict_violation';
        END $$
    """,
)
add_ddl(
    AnalyticsTable,
    "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_record FOR EACH STATEMENT"
    " EXECUTE FUNCTION refuse_change()",
)
