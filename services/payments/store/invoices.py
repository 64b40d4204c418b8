"""The queries of invoices and their documents."""

from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from caravan.database import Database
from caravan.database.query import Query
from caravan.database.tables import col, get_table
from services.payments.tables import Bill, CreditNote, Invoice, InvoiceDocument, Payment, Refund

_ORDER_ID = col(Invoice.order_id)
_COLUMNS: dict[str, Any] = {
    "number": col(Invoice.number),
    "issued_at": col(Invoice.issued_at),
    "revision": col(Invoice.revision),
    "order_id": _ORDER_ID,
    "user_id": col(Payment.user_id),
    "amount": col(Payment.amount),
    "currency": col(Payment.currency),
    "email": col(Bill.email),
    "customer_name": col(Bill.customer_name),
    "billing_address": col(Bill.billing_address),
    "lines": col(Bill.lines),
    "refunded_at": col(Refund.refunded_at),
    "refunded": col(Refund.amount),
    "refund_reason": col(Refund.reason),
    "credit_note": col(CreditNote.number),
    "pdf": col(InvoiceDocument.pdf),
}
_FIND = Query(
    select(*_COLUMNS.values())
    .select_from(
        get_table(Invoice)
        .join(get_table(Payment), col(Payment.order_id) == _ORDER_ID)
        .join(get_table(Bill), col(Bill.order_id) == _ORDER_ID)
        .outerjoin(get_table(Refund), and_(col(Refund.order_id) == _ORDER_ID, col(Refund.state) == "done"))
        .outerjoin(get_table(CreditNote), col(CreditNote.order_id) == _ORDER_ID)
        .outerjoin(
            get_table(InvoiceDocument),
            and_(col(InvoiceDocument.order_id) == _ORDER_ID, col(InvoiceDocument.revision) == col(Invoice.revision)),
        )
    )
    .where(col(Invoice.order_id) == bindparam("order_id")),
    lambda *values: dict(zip(_COLUMNS, values, strict=True)),
)
_INSERTED = insert(InvoiceDocument)
_SAVE = Query(
    _INSERTED.on_conflict_do_update(
        index_elements=["order_id"],
        set_={"revision": _INSERTED.excluded.revision, "pdf": _INSERTED.excluded.pdf},
        where=col(InvoiceDocument.revision) < _INSERTED.excluded.revision,
    )
)


async def find_invoice_data(database: Database, order_id: UUID) -> dict[str, Any] | None:
    """All that an invoice says, and its PDF where that has been drawn; none before it has a number."""
    return await _FIND.fetch_one(database, order_id=order_id)


async def save_document(database: Database, order_id: UUID, revision: int, pdf: bytes) -> None:
    """Store a document. One that was drawn before a refund, and is stored after it, stays a document of the old
    revision.
    """
    await _SAVE.execute(database, order_id=order_id, revision=revision, pdf=pdf)
