"""The shipping service."""

from pathlib import Path

from caravan.service import DatabaseDeclaration, PeriodicTask, Service
from services.shipping import messages, use_cases
from services.shipping.api import router
from services.shipping.consumers import consume
from services.shipping.providers import open_resources
from services.shipping.settings import Settings

service = Service(
    "shipping",
    databases=(DatabaseDeclaration("shipping", Path(__file__).parent / "migrations"),),
    routers=(router,),
    consumers=consume,
    channels=messages.CHANNELS,
    settings=Settings,
    periodic_tasks=(
        PeriodicTask("dispatch-parcels", 0.25, use_cases.dispatch_parcels),
        PeriodicTask("poll-deliveries", 0.25, use_cases.poll_deliveries),
    ),
    open_resources=open_resources,
)
