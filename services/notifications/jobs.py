"""Periodic work: two senders of their own, so that a critical message never waits behind standard ones, and keeping the table in order."""

from datetime import timedelta
from uuid import UUID

from prometheus_client import Gauge

from services.notifications import store, use_cases
from services.notifications.use_cases import NotificationsContext

WAITING = Gauge("caravan_notifications_waiting", "Notifications that are not sent yet, counted up to 100,000", ["priority"])
OWNER_DAYS = 1


async def send_critical(context: NotificationsContext) -> bool:
    return await use_cases.send_due(context, "critical")


async def send_standard(context: NotificationsContext) -> bool:
    return await use_cases.send_due(context, "standard")


async def measure(context: NotificationsContext) -> bool:
    """Count what waits, and find owners that became known too late."""
    counts = await store.waiting(context.database)
    for priority in use_cases.BATCH:
        WAITING.labels(priority).set(counts.get(priority, 0))
    await store.find_owners(context.database, context.clock() - timedelta(days=OWNER_DAYS))
    return False


async def prune(context: NotificationsContext) -> bool:
    """Delete finished notifications that are older than they are kept."""
    oldest = context.clock() - timedelta(days=context.settings.keep_days)
    return await store.prune(context.database, UUID(int=int(oldest.timestamp() * 1000) << 80)) == store.PRUNED_AT_ONCE
