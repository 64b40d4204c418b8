"""The verbs of payments: expecting and charging, giving back, and the invoice."""

from caravan.service import ServiceContext
from services.payments.providers import PaymentsResources
from services.payments.settings import Settings

PaymentsContext = ServiceContext[Settings, PaymentsResources]

RETRY_JOB = "payments.capture-retry"
