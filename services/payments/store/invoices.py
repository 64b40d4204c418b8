"""The queries of invoices and their documents."""

from uuid import UUID

import asyncpg

from caravan.database import Database

_INVOICE_COLUMNS = """i.number, i.issued_at, i.revision, p.order_id, p.user_id, p.amount, p.currency, b.email,
    b.customer_name, b.billing_address, b.lines,
    r.refunded_at, r.amount AS refunded, r.reason AS refund_reason, c.number AS credit_note"""
_INVOICE_TABLES = """invoice i JOIN payment p ON p.order_id = i.order_id JOIN bill b ON b.order_id = i.order_id
    LEFT JOIN refund r ON r.order_id = i.order_id AND r.state = 'done'
    LEFT JOIN credit_note c ON c.order_id = i.order_id"""


async def find_invoice_data(database: Database, order_id: UUID) -> asyncpg.Record | None:
    """All that an invoice says, and its PDF where that has been drawn; none before it has a number."""
    return await database.fetchrow(
        f"SELECT {_INVOICE_COLUMNS}, d.pdf FROM {_INVOICE_TABLES} LEFT"
        " JOIN invoice_document d ON d.order_id = i.order_id AND d.revision = i.revision"
        " WHERE i.order_id = $1",
        order_id,
    )


async def save_document(database: Database, order_id: UUID, revision: int, pdf: bytes) -> None:
    """Store a document. One that was drawn before a refund, and is stored after it, stays a document of the old
    revision.
    """
    await database.fetch(
        "INSERT INTO invoice_document AS d (order_id, revision, pdf) VALUES ($1, $2, $3)"
        " ON CONFLICT (order_id) DO UPDATE SET revision = excluded.revision, pdf = excluded.pdf"
        " WHERE d.revision < excluded.revision",
        order_id,
        revision,
        pdf,
    )
