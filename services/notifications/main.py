"""The notification service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from caravan.derivation import derive_secret
from caravan.service import OUTBOX_STATE, DatabaseDeclaration, Service
from services.notifications import jobs, messages, timeline
from services.notifications.api import bounces, campaigns, notifications, pages, preferences
from services.notifications.client import LIST_LATEST_NOTIFICATIONS
from services.notifications.consumers import consume
from services.notifications.providers.create import create_providers
from services.notifications.settings import Settings
from services.notifications.use_cases import NotificationsContext, NotificationsResources
from services.notifications.use_cases.dead_letters import NotificationDeadLetters
from services.notifications.use_cases.preferences import list_latest_notifications


@asynccontextmanager
async def open_resources(context: NotificationsContext) -> AsyncIterator[NotificationsResources]:
    yield NotificationsResources(
        create_providers(context.settings, context.kernel_settings.data, context.clock, context.http),
        (context.kernel_settings.public_url or context.url).rstrip("/"),
        derive_secret(context.secret, "unsubscribe"),
    )


service = Service(
    "notifications",
    databases=(
        DatabaseDeclaration(
            "notifications", Path(__file__).parent / "migrations", readers={"reconciliation": OUTBOX_STATE}
        ),
    ),
    routers=(notifications.router, bounces.router, preferences.router, pages.router, campaigns.router),
    consumers=consume,
    channels=messages.CHANNELS,
    operations=(LIST_LATEST_NOTIFICATIONS.bind(list_latest_notifications),),
    settings=Settings,
    periodic_tasks=jobs.SWEEPERS,
    jobs=jobs.jobs,
    timeline=timeline.describe_mails,
    open_resources=open_resources,
    dead_letter_sources=(NotificationDeadLetters,),
)
