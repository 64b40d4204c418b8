"""The use cases of notifications: accept, send, preferences and campaigns. Here is what they share."""

import time
from dataclasses import dataclass, field

from caravan.backoff import compute_exponential_backoff
from caravan.service import ServiceContext
from services.notifications.messages import ChannelName
from services.notifications.providers.protocol import MessageProvider
from services.notifications.settings import Settings


@dataclass(slots=True)
class ProviderBackoff:
    """A provider that is down is left alone for a while that doubles, so that a backlog is not spent on asking it."""

    failures: int = 0
    paused_until: float = 0.0

    def record_failure(self) -> None:
        self.paused_until = time.monotonic() + compute_exponential_backoff(self.failures, 0.5, 15.0)
        self.failures = min(self.failures + 1, 10)

    def record_success(self) -> None:
        self.failures = 0


@dataclass(slots=True)
class NotificationsResources:
    providers: dict[ChannelName, MessageProvider]
    base_url: str
    """Where links lead."""
    unsubscribe_secret: str
    backoffs: dict[ChannelName, ProviderBackoff] = field(default_factory=dict)

    def get_backoff(self, channel: ChannelName) -> ProviderBackoff:
        return self.backoffs.setdefault(channel, ProviderBackoff())

    def available_channels(self) -> list[ChannelName]:
        now = time.monotonic()
        return [channel for channel in self.providers if self.get_backoff(channel).paused_until <= now]


NotificationsContext = ServiceContext[Settings, NotificationsResources]
