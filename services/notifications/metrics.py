"""The metrics that notifications keeps."""

from prometheus_client import Counter, Gauge, Histogram

from caravan.telemetry import ProviderCalls
from caravan.telemetry.metrics import start_at_zero
from services.notifications.messages import ChannelName
from services.notifications.model import KINDS

BOUNCES = Counter("caravan_notification_bounces_total", "Mails that came back, and complaints of readers", ["type"])
SEND_COUNTER = Counter(
    "caravan_notifications_total",
    "Notifications by what came of handing them to a provider",
    ["kind", "channel", "result"],
)
SEND_DELAY = Histogram(
    "caravan_notification_seconds",
    "From the request to the provider's confirmation",
    ["priority"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600),
)
WAITING = Gauge(
    "caravan_notifications_waiting", "Notifications that are not sent yet, counted up to 100,000", ["priority"]
)

PROVIDER_CALLS: dict[ChannelName, ProviderCalls] = {
    "email": ProviderCalls("mail"),
    "sms": ProviderCalls("sms"),
    "log": ProviderCalls("log"),
}

start_at_zero(SEND_COUNTER, KINDS, ("email",), ("sent", "again", "refused", "later", "down"))
start_at_zero(BOUNCES, ("bounce", "transient", "complaint"))
