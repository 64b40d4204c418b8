"""Chooses the provider of each channel by the settings: another channel is another line here."""

from pathlib import Path

import httpx2

from caravan.clock import Clock
from services.notifications.messages import ChannelName
from services.notifications.providers.files import FolderEmailProvider, LogProvider, SmsFileProvider
from services.notifications.providers.protocol import MessageProvider
from services.notifications.providers.sms import HttpSmsProvider
from services.notifications.providers.smtp import SmtpEmailProvider
from services.notifications.settings import Settings


def create_providers(
    settings: Settings, data: Path, clock: Clock, http: httpx2.AsyncClient
) -> dict[ChannelName, MessageProvider]:
    email: MessageProvider = FolderEmailProvider(data / "mail", settings.sender)
    if settings.smtp_url is not None:
        smtp_url = settings.smtp_url.get_secret_value()
        email = SmtpEmailProvider(smtp_url, settings.sender, settings.smtp_connections, clock)
    sms: MessageProvider = SmsFileProvider(data / "sms.jsonl")
    if settings.sms_url is not None and settings.sms_sender is not None:
        sms_url = settings.sms_url.get_secret_value()
        sms = HttpSmsProvider(sms_url, settings.sms_sender, settings.sms_connections, http)
    return {"email": email, "sms": sms, "log": LogProvider()}
