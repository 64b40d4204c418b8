"""What the timeline of an order reads: its payment with refund, invoice and credit note in one row. The attempts are in
`charges.py`.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, select

from caravan.database import Database
from caravan.database.query import Query
from caravan.database.tables import col, get_table, list_columns
from services.payments.messages import PaymentStatus
from services.payments.tables import CreditNote, Invoice, Payment, Refund


class PaymentHistory(NamedTuple):
    order_id: UUID
    status: PaymentStatus
    amount: int
    currency: str
    attempt: int
    reason: str
    cause: UUID | None
    actor: str | None
    traceparent: str | None
    created_at: datetime
    updated_at: datetime
    refund_cause: UUID | None
    refund_actor: str | None
    refund_traceparent: str | None
    refund_reason: str | None
    refund_amount: int | None
    refund_calls: int | None
    refund_requested_at: datetime | None
    refunded_at: datetime | None
    invoice: int | None
    invoiced_at: datetime | None
    credit_note: int | None
    credited_at: datetime | None


_ORDER_ID = col(Payment.order_id)
_FIND = Query(
    select(
        *list_columns(
            Payment,
            PaymentHistory,
            refund_cause=col(Refund.cause),
            refund_actor=col(Refund.actor),
            refund_traceparent=col(Refund.traceparent),
            refund_reason=col(Refund.reason),
            refund_amount=col(Refund.amount),
            refund_calls=col(Refund.calls),
            refund_requested_at=col(Refund.requested_at),
            refunded_at=col(Refund.refunded_at),
            invoice=col(Invoice.number),
            invoiced_at=col(Invoice.issued_at),
            credit_note=col(CreditNote.number),
            credited_at=col(CreditNote.issued_at),
        )
    )
    .select_from(
        get_table(Payment)
        .outerjoin(get_table(Refund), col(Refund.order_id) == _ORDER_ID)
        .outerjoin(get_table(Invoice), col(Invoice.order_id) == _ORDER_ID)
        .outerjoin(get_table(CreditNote), col(CreditNote.order_id) == _ORDER_ID)
    )
    .where(bindparam("order_id") == _ORDER_ID),
    PaymentHistory,
)


async def find_history(database: Database, order_id: UUID) -> PaymentHistory | None:
    return await _FIND.fetch_one(database, order_id=order_id)
