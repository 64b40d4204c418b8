"""The payment service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from caravan.service import OUTBOX_STATE, DatabaseDeclaration, Service
from services.payments import messages, timeline
from services.payments.api import router
from services.payments.client import HOLD_CAPTURE, READ_STATEMENT
from services.payments.consumers import consume
from services.payments.invoice_pdf import InvoiceRenderer
from services.payments.jobs import PERIODIC, jobs
from services.payments.providers.simulated import SimulatedProvider
from services.payments.settings import Settings
from services.payments.tables import BOOKS
from services.payments.use_cases import PaymentsContext, PaymentsResources, refund, statement


@asynccontextmanager
async def open_resources(context: PaymentsContext) -> AsyncIterator[PaymentsResources]:
    invoice_renderer = InvoiceRenderer(concurrency=2, max_waiting=50)
    try:
        yield PaymentsResources(
            SimulatedProvider(context.database, context.settings.provider_latency_seconds), invoice_renderer
        )
    finally:
        await invoice_renderer.close()


service = Service(
    "payments",
    databases=(
        DatabaseDeclaration(
            "payments",
            Path(__file__).parent / "migrations",
            readers={"reconciliation": {**OUTBOX_STATE, **BOOKS}},
        ),
    ),
    routers=(router,),
    consumers=consume,
    channels=messages.CHANNELS,
    operations=(HOLD_CAPTURE.bind(refund.hold_capture), READ_STATEMENT.bind(statement.read_statement)),
    settings=Settings,
    periodic_tasks=PERIODIC,
    jobs=jobs,
    timeline=timeline.describe_payment,
    open_resources=open_resources,
)
