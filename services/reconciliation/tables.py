"""The tables of reconciliation: the one source of their shape. `migrations/` brings a database there."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text

from caravan.database import tables as sql
from caravan.database.tables import DeclaredTable, define_column, define_registry


class ReconciliationTable(DeclaredTable, registry=define_registry("reconciliation")):
    pass


class Run(ReconciliationTable, table=True):
    """A comparison. `watermark`: what changed later was not compared; `held_by`: why it is older than it had to be."""

    __tablename__ = "run"
    __table_args__ = (
        CheckConstraint("mode IN ('changes', 'full')", name="run_mode_check"),
        CheckConstraint("state IN ('requested', 'running', 'done', 'failed')", name="run_state_check"),
        Index("run_open", "id", postgresql_where=text("state IN ('requested', 'running')")),
    )

    id: UUID = define_column(sql.UUID, primary_key=True)
    mode: str = define_column(sql.TEXT)
    state: str = define_column(sql.TEXT)
    requested_by: str = define_column(sql.TEXT, default="''")
    requested_at: datetime = define_column(sql.TIMESTAMPTZ)
    started_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    finished_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    watermark: datetime | None = define_column(sql.TIMESTAMPTZ)
    held_by: str = define_column(sql.TEXT, default="''")
    orders: int = define_column(sql.BIGINT, default="0")
    products: int = define_column(sql.BIGINT, default="0")
    opened: int = define_column(sql.INTEGER, default="0")
    closed: int = define_column(sql.INTEGER, default="0")
    reason: str = define_column(sql.TEXT, default="''")


class Progress(ReconciliationTable, table=True):
    """One row: who compares now, and how far each source has been read."""

    __tablename__ = "progress"
    __table_args__ = (CheckConstraint("id = 1", name="progress_check"),)

    id: int = define_column(sql.INTEGER, primary_key=True)
    holder: str = define_column(sql.TEXT, default="''")
    held_until: datetime | None = define_column(sql.TIMESTAMPTZ)
    event_transaction: int = define_column(sql.BIGINT, default="0")
    event_position: int = define_column(sql.BIGINT, default="0")
    statement_time: datetime | None = define_column(sql.TIMESTAMPTZ)
    statement_key: str = define_column(sql.TEXT, default="''")
    scanned_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    full_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    tested_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    untested: int = define_column(sql.INTEGER, default="0")


class WatchedOrder(ReconciliationTable, table=True):
    """An order that has changed, until it has been compared."""

    __tablename__ = "watched_order"

    order_id: UUID = define_column(sql.UUID, primary_key=True)
    noticed_at: datetime = define_column(sql.TIMESTAMPTZ)


class ProviderEntry(ReconciliationTable, table=True):
    """A copy of the provider's books. `read_in`: the comparison that saw it last; one that a full one did not see is
    gone there, too. `order_id` is null where the reference is no id.
    """

    __tablename__ = "provider_entry"
    __table_args__ = (
        Index("provider_entry_order", "order_id"),
        Index("provider_entry_foreign", "key", postgresql_where=text("order_id IS NULL")),
        Index("provider_entry_time", "at", postgresql_using="brin"),
    )

    key: str = define_column(sql.TEXT, primary_key=True)
    order_id: UUID | None = define_column(sql.UUID)
    kind: str = define_column(sql.TEXT)
    outcome: str = define_column(sql.TEXT)
    amount: int = define_column(sql.BIGINT)
    currency: str = define_column(sql.TEXT)
    at: datetime = define_column(sql.TIMESTAMPTZ)
    read_in: UUID = define_column(sql.UUID)


class CheckedStock(ReconciliationTable, table=True):
    """The sums of a product's movements up to a version, so that only later ones are added up."""

    __tablename__ = "checked_stock"

    sku: str = define_column(sql.TEXT, primary_key=True)
    version: int = define_column(sql.BIGINT)
    on_hand: int = define_column(sql.BIGINT)
    reserved: int = define_column(sql.BIGINT)
    shipped: int = define_column(sql.BIGINT)
    received: int = define_column(sql.BIGINT)
    adjusted: int = define_column(sql.BIGINT)


class Case(ReconciliationTable, table=True):
    """A gap, found until it is gone. One of a class and subject at a time."""

    __tablename__ = "gap_case"
    __table_args__ = (
        CheckConstraint(
            "state IN ('open', 'awaiting_approval', 'repairing', 'resolved', 'closed', 'dismissed')",
            name="gap_case_state_check",
        ),
        Index(
            "gap_case_unsettled",
            "gap_class",
            "subject",
            unique=True,
            postgresql_where=text("state IN ('open', 'awaiting_approval', 'repairing')"),
        ),
        Index("gap_case_order", "order_id", postgresql_where=text("order_id IS NOT NULL")),
        Index("gap_case_opened", "opened_at", "id"),
        Index("gap_case_dismissed", "gap_class", "subject", postgresql_where=text("state = 'dismissed'")),
    )

    id: UUID = define_column(sql.UUID, primary_key=True)
    gap_class: str = define_column(sql.TEXT)
    subject: str = define_column(sql.TEXT)
    order_id: UUID | None = define_column(sql.UUID)
    amount: int = define_column(sql.BIGINT)
    currency: str = define_column(sql.TEXT)
    details: dict[str, Any] = define_column(sql.JSON)
    state: str = define_column(sql.TEXT)
    version: int = define_column(sql.INTEGER)
    proposed_by: str | None = define_column(sql.TEXT)
    opened_at: datetime = define_column(sql.TIMESTAMPTZ)
    seen_at: datetime = define_column(sql.TIMESTAMPTZ)
    changed_at: datetime = define_column(sql.TIMESTAMPTZ)


class CaseStep(ReconciliationTable, table=True):
    """What became of a case, step by step."""

    __tablename__ = "case_step"

    case_id: UUID = define_column(sql.UUID, ForeignKey("gap_case.id"), primary_key=True)
    version: int = define_column(sql.INTEGER, primary_key=True)
    state: str = define_column(sql.TEXT)
    actor: str = define_column(sql.TEXT)
    reason: str = define_column(sql.TEXT)
    time: datetime = define_column(sql.TIMESTAMPTZ)
