"""Background jobs of payments. What is due is a row in the database, so that neither a restart nor the loss of Redis
loses or doubles an attempt.
"""

from caravan.jobs import Job, Jobs
from caravan.service import PeriodicTask
from services.payments.use_cases import RETRY_JOB, PaymentsContext, charge, refund

jobs = Jobs("payments")


@jobs.job(RETRY_JOB, concurrency=4, lease_seconds=15.0, seconds=60.0)
async def retry_capture(context: PaymentsContext, job: Job) -> dict[str, str]:
    """A further attempt to charge an order after a soft failure, at the time that its row says."""
    return await charge.retry_capture(context, job)


PERIODIC = (
    PeriodicTask("captures", 0.5, charge.resume_captures),
    PeriodicTask("refunds", 0.5, refund.make_due_refunds),
    PeriodicTask("retries", 10.0, charge.enqueue_missing_retries),
)
