"""The notification service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from caravan.derivation import derive_secret
from caravan.service import DatabaseDeclaration, Service
from services.notifications import api, jobs, messages, timeline
from services.notifications.client import LIST_LATEST_NOTIFICATIONS
from services.notifications.consumers import consume
from services.notifications.providers.files import FolderEmailProvider, LogProvider, SmsFileProvider
from services.notifications.providers.protocol import MessageProvider
from services.notifications.providers.smtp import SmtpEmailProvider
from services.notifications.settings import Settings
from services.notifications.use_cases import NotificationsContext, NotificationsResources
from services.notifications.use_cases.dead_letters import NotificationDeadLetters
from services.notifications.use_cases.preferences import list_latest_notifications


@asynccontextmanager
async def open_resources(context: NotificationsContext) -> AsyncIterator[NotificationsResources]:
    settings, folder = context.settings, context.kernel_settings.data
    email: MessageProvider
    if settings.smtp_url is not None:
        email = SmtpEmailProvider(
            settings.smtp_url.get_secret_value(), settings.sender, settings.smtp_connections, context.clock
        )
    else:
        email = FolderEmailProvider(folder / "mail", settings.sender)
    yield NotificationsResources(
        {"email": email, "sms": SmsFileProvider(folder / "sms.jsonl"), "log": LogProvider()},
        (context.kernel_settings.public_url or context.url).rstrip("/"),
        derive_secret(context.secret, "unsubscribe"),
    )


service = Service(
    "notifications",
    databases=(DatabaseDeclaration("notifications", Path(__file__).parent / "migrations"),),
    routers=(api.router,),
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
