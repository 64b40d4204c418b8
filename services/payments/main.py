"""The payment service."""

from pathlib import Path

from caravan.service import DatabaseDeclaration, Service
from services.payments import messages
from services.payments.api import router
from services.payments.client import HOLD_CAPTURE
from services.payments.consumers import consume
from services.payments.jobs import PERIODIC, jobs
from services.payments.providers import open_resources
from services.payments.settings import Settings
from services.payments.use_cases import refund

service = Service(
    "payments",
    databases=(DatabaseDeclaration("payments", Path(__file__).parent / "migrations"),),
    routers=(router,),
    consumers=consume,
    channels=messages.CHANNELS,
    operations={HOLD_CAPTURE: refund.hold_capture},
    settings=Settings,
    periodic_tasks=PERIODIC,
    jobs=jobs,
    open_resources=open_resources,
)
