"""Sets the gauges of what waits: messages of each subscription, rows in the outboxes, jobs.

Each needs statements and requests, to brokers several for each subscription. A process that has been idle, and saw no
message waiting, asks less often; a relay that can't publish sets its gauges itself.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from caravan.bus import Bus, Subscription
from caravan.database import CONNECTION_LOST, Database
from caravan.jobs import Workers
from caravan.outbox import OutboxRelay
from caravan.telemetry import metrics

SAMPLE_SECONDS = 5.0
_RESTING_SAMPLE_SECONDS = 30.0


async def sample_metrics(
    bus: Bus,
    read: Sequence[Subscription],
    databases: Sequence[Database],
    relays: Sequence[OutboxRelay],
    workers: Workers,
) -> None:
    due = 0.0
    while True:
        now = time.monotonic()
        worked = max((database.last_active_at for database in databases), default=now)
        if now >= due or now - worked < 2 * SAMPLE_SECONDS:
            waits = True
            with contextlib.suppress(*CONNECTION_LOST):
                waits = await _update_lag_gauges(bus, read)
            for relay in relays:
                await relay.update_gauges()
            await workers.update_gauges()
            due = now + (0 if waits else _RESTING_SAMPLE_SECONDS)
        await asyncio.sleep(SAMPLE_SECONDS)


async def _update_lag_gauges(bus: Bus, read: Sequence[Subscription]) -> bool:
    """Whether any message waits."""
    waiting = await bus.measure_lag(read)
    for subscription in read:
        metrics.CONSUMER_LAG.labels(subscription.service, subscription.channel).set(waiting.get(subscription.name, 0))
    return any(waiting.values())
