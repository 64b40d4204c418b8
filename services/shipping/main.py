"""The shipping service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from caravan.service import OUTBOX_STATE, DatabaseDeclaration, PeriodicTask, Service
from services.shipping import messages, timeline, use_cases
from services.shipping.api import router
from services.shipping.consumers import consume
from services.shipping.providers.simulated import SimulatedCarrier
from services.shipping.settings import Settings
from services.shipping.tables import BOOKS
from services.shipping.use_cases import ShippingContext, ShippingResources


@asynccontextmanager
async def open_resources(context: ShippingContext) -> AsyncIterator[ShippingResources]:
    yield ShippingResources(SimulatedCarrier(timedelta(seconds=context.settings.delivery_seconds), context.clock))


service = Service(
    "shipping",
    databases=(
        DatabaseDeclaration(
            "shipping",
            Path(__file__).parent / "migrations",
            readers={"reconciliation": {**OUTBOX_STATE, **BOOKS}},
        ),
    ),
    routers=(router,),
    consumers=consume,
    channels=messages.CHANNELS,
    settings=Settings,
    periodic_tasks=(
        PeriodicTask("dispatch-parcels", 0.25, use_cases.dispatch_parcels),
        PeriodicTask("poll-deliveries", 0.25, use_cases.poll_deliveries),
    ),
    timeline=timeline.describe_shipment,
    open_resources=open_resources,
)
