"""The HTTP entry point of payments."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from caravan.auth import Customer, Staff
from caravan.errors import NotFound
from caravan.http import (
    SLOW_READ,
    CursorParameter,
    Injected,
    Limit,
    decode_cursor,
    document_headers,
    make_json_response,
    make_page_response,
)
from caravan.money import Money
from caravan.schemas import Page
from services.payments.messages import PaymentStatus
from services.payments.model import build_charge_key, build_refund_key, format_invoice_number
from services.payments.schemas import Attempt, Capture, Ledger, LedgerEntry, PaymentDocument, PaymentItem, RefundItem
from services.payments.store import charges, refunds
from services.payments.store.charges import AttemptRow, PaymentRow
from services.payments.store.refunds import RefundRow
from services.payments.use_cases import PaymentsContext, invoice

router = APIRouter(tags=["payments"])


@router.get("/v1/payments", response_model=Page[PaymentItem])
async def list_payments(
    context: Injected[PaymentsContext],
    caller: Staff,
    status: PaymentStatus | None = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Response:
    """All payments, those of the newest orders first; `status=retrying` shows what waits for another attempt, and when
    it is due.
    """
    before = decode_cursor(cursor, UUID)
    rows = await charges.list_payments(context.database, status, before[0] if before else None, limit + 1)
    return make_page_response(rows, limit, lambda row: PaymentItem(**_to_item_fields(row)), lambda row: (row.order_id,))


@router.get("/v1/payments/{order_id}", response_model=PaymentDocument)
async def get_payment(context: Injected[PaymentsContext], order_id: UUID, caller: Customer) -> Response:
    """The payment of an order: attempts, captures, refunds."""
    database = context.database
    row = await charges.find_payment_row(database, order_id)
    if row is None or not caller.can_see(row.user_id or ""):
        raise NotFound(f"no payment for order {order_id}")
    attempts, refund = await charges.list_attempts(database, order_id), await refunds.find_refund(database, order_id)
    return make_json_response(
        PaymentDocument(
            **_to_item_fields(row),
            attempts=[_to_attempt(order_id, attempt) for attempt in attempts],
            captures=[_to_capture(row, attempt) for attempt in attempts if attempt.state == "captured"],
            refunds=[_to_refund_item(row, refund)] if refund and (refund.amount or refund.state != "done") else [],
        )
    )


@router.get("/v1/payments/{order_id}/provider-ledger", response_model=Ledger)
async def get_provider_ledger(context: Injected[PaymentsContext], order_id: UUID, caller: Staff) -> Response:
    """What the payment provider's own books say, per idempotency key: to compare with ours."""
    if await charges.find_payment_row(context.database, order_id) is None:
        raise NotFound(f"no payment for order {order_id}")
    entries = await context.resources.provider.list_entries(str(order_id))
    items = [
        LedgerEntry(
            key=e.key, kind=e.kind, outcome=e.outcome, amount=e.amount, reason=e.reason, charge=e.charge, at=e.at
        )
        for e in entries
    ]
    return make_json_response(Ledger(items=items))


@router.get(
    "/v1/orders/{order_id}/invoice",
    response_class=Response,
    openapi_extra=SLOW_READ,
    responses=document_headers(
        200,
        "Content-Disposition",
        description="the invoice",
        content={"application/pdf": {"schema": {"type": "string", "format": "binary"}}},
    ),
)
async def get_invoice(context: Injected[PaymentsContext], order_id: UUID, caller: Customer) -> Response:
    """The invoice of a paid order as a PDF; after a refund with its credit note."""
    document = await invoice.get_invoice(context, caller, order_id)
    headers = {"Content-Disposition": f'inline; filename="{document.name}.pdf"', "Cache-Control": "private, no-cache"}
    return Response(document.pdf, headers=headers, media_type="application/pdf")


def _to_item_fields(row: PaymentRow) -> dict[str, Any]:
    return {
        "order_id": row.order_id,
        "status": row.status,
        "amount": Money(amount=row.amount, currency=row.currency),
        "attempt": row.attempt,
        "next_attempt_at": row.due_at,
        "reason": row.reason,
        "invoice_number": format_invoice_number(row.number) if row.number is not None else None,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _to_attempt(order_id: UUID, row: AttemptRow) -> Attempt:
    fields = row._asdict()
    del fields["charge"]
    return Attempt(key=build_charge_key(order_id, row.attempt), **fields)


def _to_capture(payment: PaymentRow, row: AttemptRow) -> Capture:
    return Capture(
        key=build_charge_key(payment.order_id, row.attempt),
        charge=row.charge,
        amount=Money(amount=payment.amount, currency=payment.currency),
        captured_at=row.finished_at,
    )


def _to_refund_item(payment: PaymentRow, row: RefundRow) -> RefundItem:
    return RefundItem(
        key=build_refund_key(payment.order_id),
        state=row.state,
        amount=Money(amount=row.amount, currency=payment.currency),
        reason=row.reason,
        requested_at=row.requested_at,
        refunded_at=row.refunded_at,
    )
