"""The notification service."""

from pathlib import Path

from caravan.service import DatabaseDeclaration, Service
from services.notifications import api, jobs, messages, providers
from services.notifications.client import LIST_LATEST_NOTIFICATIONS
from services.notifications.consumers import consume
from services.notifications.settings import Settings
from services.notifications.use_cases.dead_letters import NotificationDeadLetters
from services.notifications.use_cases.preferences import list_latest_notifications

service = Service(
    "notifications",
    databases=(DatabaseDeclaration("notifications", Path(__file__).parent / "migrations"),),
    routers=(api.router,),
    consumers=consume,
    channels=messages.CHANNELS,
    operations={LIST_LATEST_NOTIFICATIONS: list_latest_notifications},
    settings=Settings,
    periodic_tasks=jobs.SWEEPERS,
    jobs=jobs.jobs,
    open_resources=providers.open_resources,
    dead_letter_sources=(NotificationDeadLetters,),
)
