"""The invoice of a paid order: numbered at the payment, drawn for the first who asks for it, and kept."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prometheus_client import Histogram

from caravan.auth import Caller
from caravan.errors import NotFound
from services.payments.drawing import render
from services.payments.model import invoice_number
from services.payments.store import invoices
from services.payments.use_cases import PaymentsContext

DRAWING = Histogram(
    "caravan_payment_invoice_drawing_seconds",
    "Drawing one invoice's PDF, without the wait for a turn",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2),
)


@dataclass(frozen=True, slots=True)
class Invoice:
    name: str
    pdf: bytes


async def read(context: PaymentsContext, caller: Caller, order_id: UUID) -> Invoice:
    bill = await invoices.bill(context.database, order_id)
    if bill is None or not caller.may_see(bill["user_id"]):
        raise NotFound(f"no invoice for order {order_id}: it has one once it is paid")
    pdf = bill["pdf"]
    if pdf is None:
        pdf = await context.parts.drawings.draw((order_id, bill["revision"]), lambda: _draw(context, dict(bill)))
    return Invoice(invoice_number(bill["number"]), pdf)


async def _draw(context: PaymentsContext, bill: dict[str, Any]) -> bytes:
    with DRAWING.time():
        pdf = await asyncio.to_thread(render, bill)
    await invoices.keep_document(context.database, bill["order_id"], bill["revision"], pdf)
    return pdf
