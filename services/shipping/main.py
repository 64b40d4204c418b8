"""The shipping service."""

from pathlib import Path

from caravan.service import DatabaseDeclaration, Periodic, Service
from services.shipping import messages, use_cases
from services.shipping.api import router
from services.shipping.consumers import consume
from services.shipping.providers import open_parts
from services.shipping.settings import Settings

service = Service(
    "shipping",
    databases=(DatabaseDeclaration("shipping", Path(__file__).parent / "migrations"),),
    routers=(router,),
    consumers=consume,
    channels=messages.CHANNELS,
    settings=Settings,
    periodic=(Periodic("hand-over", 0.25, use_cases.hand_over), Periodic("arrivals", 0.25, use_cases.see_arrivals)),
    parts=open_parts,
)
