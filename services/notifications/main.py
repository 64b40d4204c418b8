"""The notification service."""

from pathlib import Path

from caravan.service import DatabaseDeclaration, Periodic, Service
from services.notifications import api, jobs, messages, providers, use_cases
from services.notifications.client import LATEST
from services.notifications.consumers import consume
from services.notifications.settings import Settings

service = Service(
    "notifications",
    databases=(DatabaseDeclaration("notifications", Path(__file__).parent / "migrations"),),
    routers=(api.router,),
    consumers=consume,
    channels=messages.CHANNELS,
    operations={LATEST: use_cases.latest},
    settings=Settings,
    periodic=(
        Periodic("critical", 1.0, jobs.send_critical),
        Periodic("standard", 1.0, jobs.send_standard),
        Periodic("measure", 10.0, jobs.measure),
        Periodic("prune", 3600.0, jobs.prune),
    ),
    parts=providers.opened,
)
