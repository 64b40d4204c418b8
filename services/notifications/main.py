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
from services.notifications.providers.sms import HttpSmsProvider
from services.notifications.providers.smtp import SmtpEmailProvider
from services.notifications.settings import Settings
from services.notifications.use_cases import NotificationsContext, NotificationsResources
from services.notifications.use_cases.dead_letters import NotificationDeadLetters
from services.notifications.use_cases.preferences import list_latest_notifications


@asynccontextmanager
async def open_resources(context: NotificationsContext) -> AsyncIterator[NotificationsResources]:
    yield NotificationsResources(
        {"email": _create_email_provider(context), "sms": _create_sms_provider(context), "log": LogProvider()},
        (context.kernel_settings.public_url or context.url).rstrip("/"),
        derive_secret(context.secret, "unsubscribe"),
    )


def _create_email_provider(context: NotificationsContext) -> MessageProvider:
    settings = context.settings
    if settings.smtp_url is None:
        return FolderEmailProvider(context.kernel_settings.data / "mail", settings.sender)
    return SmtpEmailProvider(
        settings.smtp_url.get_secret_value(), settings.sender, settings.smtp_connections, context.clock
    )


def _create_sms_provider(context: NotificationsContext) -> MessageProvider:
    settings = context.settings
    if settings.sms_url is None or settings.sms_sender is None:
        return SmsFileProvider(context.kernel_settings.data / "sms.jsonl")
    return HttpSmsProvider(
        settings.sms_url.get_secret_value(), settings.sms_sender, settings.sms_connections, context.http
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
