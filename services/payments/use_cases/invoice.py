"""The invoice of a paid order: numbered with the payment, drawn when first asked for, and stored."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from caravan.auth import Caller
from caravan.errors import NotFound
from services.payments.invoice_pdf import build_document
from services.payments.metrics import RENDER_SECONDS
from services.payments.model import format_invoice_number
from services.payments.store import invoices
from services.payments.use_cases import PaymentsContext


@dataclass(frozen=True, slots=True)
class Invoice:
    name: str
    pdf: bytes


async def get_invoice(context: PaymentsContext, caller: Caller, order_id: UUID) -> Invoice:
    invoice_data = await invoices.find_invoice_data(context.database, order_id)
    if invoice_data is None or not caller.can_see(invoice_data["user_id"]):
        raise NotFound(f"no invoice for order {order_id}: it has one once it is paid")
    pdf = invoice_data["pdf"]
    if pdf is None:
        pdf = await context.resources.invoice_renderer.render_once(
            (order_id, invoice_data["revision"]), lambda: _render_and_save(context, invoice_data)
        )
    return Invoice(format_invoice_number(invoice_data["number"]), pdf)


async def _render_and_save(context: PaymentsContext, invoice_data: dict[str, Any]) -> bytes:
    with RENDER_SECONDS.time():
        pdf = await context.resources.invoice_renderer.pool.render(build_document(invoice_data))
    await invoices.save_document(context.database, invoice_data["order_id"], invoice_data["revision"], pdf)
    return pdf
