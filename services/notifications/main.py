"""The notification service."""

from pathlib import Path

from caravan.service import DatabaseDeclaration, Service
from services.notifications import api, jobs, messages, providers
from services.notifications.client import LATEST
from services.notifications.consumers import consume
from services.notifications.settings import Settings
from services.notifications.use_cases.given_up import GivenUp
from services.notifications.use_cases.preferences import latest

service = Service(
    "notifications",
    databases=(DatabaseDeclaration("notifications", Path(__file__).parent / "migrations"),),
    routers=(api.router,),
    consumers=consume,
    channels=messages.CHANNELS,
    operations={LATEST: latest},
    settings=Settings,
    periodic=jobs.SWEEPERS,
    jobs=jobs.jobs,
    parts=providers.opened,
    failures=(GivenUp,),
)
