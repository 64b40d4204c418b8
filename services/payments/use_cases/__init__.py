"""The use cases of payments: charge, refund, and the invoice. Here is what they share."""

from dataclasses import dataclass

from caravan.service import ServiceContext
from services.payments.invoice_pdf import InvoiceRenderer
from services.payments.providers.protocol import PaymentProvider
from services.payments.settings import Settings


@dataclass(slots=True)
class PaymentsResources:
    """What payments holds open: its provider, and the drawing of invoices."""

    provider: PaymentProvider
    invoice_renderer: InvoiceRenderer


PaymentsContext = ServiceContext[Settings, PaymentsResources]

RETRY_JOB = "payments.capture-retry"
