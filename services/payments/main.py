"""The payment service."""

from pathlib import Path

from caravan.service import DatabaseDeclaration, Service
from services.payments import messages
from services.payments.api import router
from services.payments.consumers import consume
from services.payments.jobs import PERIODIC, jobs
from services.payments.providers import open_parts
from services.payments.settings import Settings

service = Service(
    "payments",
    databases=(DatabaseDeclaration("payments", Path(__file__).parent / "migrations"),),
    routers=(router,),
    consumers=consume,
    channels=messages.CHANNELS,
    settings=Settings,
    periodic=PERIODIC,
    jobs=jobs,
    parts=open_parts,
)
