"""The verbs of payments: expecting and charging, giving back, and the invoice."""

from caravan.service import Context
from services.payments.providers import Parts
from services.payments.settings import Settings

PaymentsContext = Context[Settings, Parts]

RETRY_JOB = "payments.capture-retry"
