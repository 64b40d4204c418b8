"""The tables of payments: the one source of their shape. `migrations/` brings a database there."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, text

from caravan.database import tables as sql
from caravan.database.tables import DeclaredTable, add_ddl, define_column, define_registry


class PaymentsTable(DeclaredTable, registry=define_registry("payments")):
    pass


class Payment(PaymentsTable, table=True):
    """Updated twice within a second of being made: room in the page keeps the new versions there. `held_until`: no
    attempt begins before then, because the order is about to be cancelled.
    """

    __tablename__ = "payment"
    __table_args__ = (
        CheckConstraint(
            "status IN ('expected', 'capturing', 'retrying', 'completed', 'failed', 'refunding', 'refunded', 'voided')",
            name="payment_status_check",
        ),
        CheckConstraint("amount >= 0", name="payment_amount_check"),
        CheckConstraint("(due_at IS NOT NULL) = (status IN ('capturing', 'retrying'))", name="payment_check"),
        Index("payment_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index(
            "payment_status",
            "status",
            "order_id",
            postgresql_where=text("status NOT IN ('expected', 'capturing', 'completed')"),
        ),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    order_id: UUID = define_column(sql.UUID, primary_key=True)
    user_id: UUID | None = define_column(sql.UUID)
    status: str = define_column(sql.TEXT)
    amount: int = define_column(sql.BIGINT)
    currency: str = define_column(sql.TEXT)
    method: str = define_column(sql.TEXT, default="''")
    token: str = define_column(sql.TEXT, default="''")
    attempt: int = define_column(sql.INTEGER, default="0")
    reason: str = define_column(sql.TEXT, default="''")
    refund_asked: bool = define_column(sql.BOOLEAN, default="false")
    due_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    traceparent: str | None = define_column(sql.TEXT)
    actor: str | None = define_column(sql.TEXT)
    cause: UUID | None = define_column(sql.UUID)
    created_at: datetime = define_column(sql.TIMESTAMPTZ)
    updated_at: datetime = define_column(sql.TIMESTAMPTZ)
    held_until: datetime | None = define_column(sql.TIMESTAMPTZ)


class PaymentAttempt(PaymentsTable, table=True):
    __tablename__ = "payment_attempt"
    __table_args__ = (
        CheckConstraint(
            "state IN ('sent', 'unknown', 'captured', 'declined', 'failed')", name="payment_attempt_state_check"
        ),
        Index("payment_captured_once", "order_id", unique=True, postgresql_where=text("state = 'captured'")),
        {"postgresql_with": {"fillfactor": "80"}},
    )

    order_id: UUID = define_column(sql.UUID, primary_key=True)
    attempt: int = define_column(sql.INTEGER, primary_key=True)
    state: str = define_column(sql.TEXT)
    calls: int = define_column(sql.INTEGER, name="asked", default="1")
    charge: str | None = define_column(sql.TEXT)
    reason: str = define_column(sql.TEXT, default="''")
    started_at: datetime = define_column(sql.TIMESTAMPTZ)
    finished_at: datetime | None = define_column(sql.TIMESTAMPTZ)


class Bill(PaymentsTable, table=True):
    """What an invoice says beside the amount."""

    __tablename__ = "bill"

    order_id: UUID = define_column(sql.UUID, primary_key=True)
    email: str = define_column(sql.TEXT)
    customer_name: str = define_column(sql.TEXT)
    billing_address: str = define_column(sql.TEXT)
    lines: list[dict[str, Any]] = define_column(sql.JSON)


class Invoice(PaymentsTable, table=True):
    """A refund makes a new revision. `drawn` is read no more."""

    __tablename__ = "invoice"
    __table_args__ = (CheckConstraint("number > 0", name="invoice_number_check"),)

    number: int = define_column(sql.BIGINT, primary_key=True)
    order_id: UUID = define_column(sql.UUID, ForeignKey("payment.order_id"), unique=True)
    issued_at: datetime = define_column(sql.TIMESTAMPTZ)
    revision: int = define_column(sql.INTEGER, default="1")
    drawn: int = define_column(sql.INTEGER, default="0")


class InvoiceDocument(PaymentsTable, table=True):
    __tablename__ = "invoice_document"

    order_id: UUID = define_column(sql.UUID, ForeignKey("invoice.order_id"), primary_key=True)
    revision: int = define_column(sql.INTEGER)
    pdf: bytes = define_column(sql.BYTEA)


class CreditNote(PaymentsTable, table=True):
    """Its numbers are its own, without holes."""

    __tablename__ = "credit_note"
    __table_args__ = (CheckConstraint("number > 0", name="credit_note_number_check"),)

    number: int = define_column(sql.BIGINT, primary_key=True)
    order_id: UUID = define_column(sql.UUID, ForeignKey("invoice.order_id"), unique=True)
    issued_at: datetime = define_column(sql.TIMESTAMPTZ)


class Refund(PaymentsTable, table=True):
    __tablename__ = "refund"
    __table_args__ = (
        CheckConstraint("state IN ('requested', 'sent', 'unknown', 'done')", name="refund_state_check"),
        CheckConstraint("amount >= 0", name="refund_amount_check"),
        Index("refund_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    order_id: UUID = define_column(sql.UUID, ForeignKey("payment.order_id"), primary_key=True)
    state: str = define_column(sql.TEXT)
    amount: int = define_column(sql.BIGINT)
    reason: str = define_column(sql.TEXT)
    calls: int = define_column(sql.INTEGER, name="asked", default="0")
    due_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    traceparent: str | None = define_column(sql.TEXT)
    actor: str | None = define_column(sql.TEXT)
    cause: UUID | None = define_column(sql.UUID)
    requested_at: datetime = define_column(sql.TIMESTAMPTZ)
    refunded_at: datetime | None = define_column(sql.TIMESTAMPTZ)


class ProviderLedger(PaymentsTable, table=True):
    """The simulated provider's own books, which share no transaction with ours."""

    __tablename__ = "provider_ledger"
    __table_args__ = (
        CheckConstraint("kind IN ('capture', 'refund')", name="provider_ledger_kind_check"),
        CheckConstraint(
            "outcome IN ('captured', 'declined', 'failed', 'refunded')", name="provider_ledger_outcome_check"
        ),
        Index("provider_ledger_reference", "reference"),
        Index("provider_ledger_time", "at", "key"),
    )

    key: str = define_column(sql.TEXT, primary_key=True)
    kind: str = define_column(sql.TEXT)
    reference: str = define_column(sql.TEXT)
    amount: int = define_column(sql.BIGINT)
    currency: str = define_column(sql.TEXT)
    outcome: str = define_column(sql.TEXT)
    reason: str = define_column(sql.TEXT, default="''")
    charge: str | None = define_column(sql.TEXT)
    at: datetime = define_column(sql.TIMESTAMPTZ, default="clock_timestamp()")


# invoice_counter, credit_note_counter: one row each and no key, so that no class can be mapped to them.
for _counter in ("invoice_counter", "credit_note_counter"):
    Table(_counter, PaymentsTable.metadata, Column("last", sql.BIGINT, nullable=False))

add_ddl(PaymentsTable, "ALTER TABLE invoice_document ALTER COLUMN pdf SET STORAGE EXTERNAL")  # a PDF is compressed

BOOKS: dict[str, tuple[str, ...]] = {
    "payment": ("order_id", "status", "amount", "currency", "due_at", "updated_at"),
    "payment_attempt": ("order_id", "attempt", "state", "started_at", "finished_at"),
    "refund": ("order_id", "state", "amount", "requested_at", "refunded_at"),
}
"""What reconciliation may read: nothing of persons, and no token."""
