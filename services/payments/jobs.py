"""Background work of payments: what is due is a row in the database, so that no restart, and no loss of Redis, loses an attempt or doubles one."""

from caravan.jobs import Job, Jobs
from caravan.service import Periodic
from services.payments.use_cases import DRAW_JOB, RETRY_JOB, PaymentsContext, charge, give_back, invoice

jobs = Jobs("payments")


@jobs.job(RETRY_JOB, concurrency=4, lease_seconds=15.0, seconds=60.0)
async def retry_capture(context: PaymentsContext, job: Job) -> dict[str, str]:
    """A further attempt to charge an order after a soft failure, at the time that its row says."""
    return await charge.retry(context, job)


@jobs.job(DRAW_JOB, everywhere=1, gather_seconds=5.0, seconds=180.0, keep_completed=50)
async def draw_invoices(context: PaymentsContext, job: Job) -> dict[str, int]:
    """Draw the PDFs of paid orders, and those of refunded ones anew; one job for all of a few seconds."""
    return await invoice.draw_due(context, job)


PERIODIC = (
    Periodic("captures", 0.5, charge.resume),
    Periodic("refunds", 0.5, give_back.refund_due),
    Periodic("retries", 10.0, charge.sweep_retries),
    Periodic("invoices", 30.0, invoice.sweep),
)
