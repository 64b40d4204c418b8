"""Sets the gauges of what waits (messages of each subscription, dead letters, rows in the outboxes, jobs) and of what
the backends tell of themselves; and observes how late the event loop is.

Each needs statements and requests, to brokers several for each subscription. A process that has been idle, and saw no
message waiting, asks less often; a relay that can't publish sets its gauges itself.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from caravan.bus import Bus
from caravan.clock import Clock
from caravan.database import CONNECTION_LOST
from caravan.inbox import Inbox
from caravan.jobs import Workers
from caravan.outbox import OutboxRelay
from caravan.runtime.backend_gauges import BackendGauges
from caravan.telemetry import metrics

SAMPLE_SECONDS = 5.0
_RESTING_SAMPLE_SECONDS = 30.0
_BACKEND_SECONDS = 15.0
_LOOP_SECONDS = 0.5


class WaitEstimate:
    """For how long the oldest message of a subscription has waited: since the queue was last seen empty, or since that
    message was sent which was handled last here, whichever is later. Of a queue that others read it says 0 whenever
    they have taken something.
    """

    def __init__(self, now: datetime) -> None:
        self._since = now
        self._count = 0

    def update(self, count: int, last_handled: datetime | None, now: datetime) -> float:
        """Seconds. `last_handled`: when the newest handled message was sent."""
        if count == 0 or (count < self._count and (last_handled is None or last_handled <= self._since)):
            self._since = now
        elif last_handled is not None and last_handled > self._since:
            self._since = last_handled
        self._count = count
        return max(0.0, (now - self._since).total_seconds()) if count else 0.0


@dataclass(slots=True)
class Sampler:
    """One for a process. `check_readiness` says what is not ready, by name, and why."""

    bus: Bus
    inboxes: Sequence[Inbox]
    relays: Sequence[OutboxRelay]
    workers: Workers
    backends: BackendGauges
    check_readiness: Callable[[], Awaitable[dict[str, str]]]
    clock: Clock
    _waits: dict[str, WaitEstimate] = field(default_factory=dict)

    async def run(self) -> None:
        due = backends_due = 0.0
        while True:
            now = time.monotonic()
            worked = max((database.last_active_at for database in self.backends.databases.values()), default=now)
            if now >= due or now - worked < 2 * SAMPLE_SECONDS:
                waits = await self._update_gauges()
                due = now + (0 if waits else _RESTING_SAMPLE_SECONDS)
                if now >= backends_due:
                    await self.backends.ask_backends()
                    await self._count_dead_letters()
                    backends_due = now + _BACKEND_SECONDS
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _update_gauges(self) -> bool:
        """Whether any message waits."""
        waits = True
        with contextlib.suppress(*CONNECTION_LOST):
            waits = await self._update_lag()
        for relay in self.relays:
            await relay.update_gauges()
        await self.workers.update_gauges()
        self.backends.update_pools()
        self.backends.update_checks(await self.check_readiness(), self.bus.reachable)
        return waits

    async def _update_lag(self) -> bool:
        waiting = await self.bus.measure_lag([inbox.consumer.subscription for inbox in self.inboxes])
        now = self.clock()
        for inbox in self.inboxes:
            subscription = inbox.consumer.subscription
            count, labels = waiting.get(subscription.name, 0), (subscription.service, subscription.channel)
            estimate = self._waits.setdefault(subscription.name, WaitEstimate(now))
            metrics.CONSUMER_LAG.labels(*labels).set(count)
            metrics.CONSUMER_LAG_SECONDS.labels(*labels).set(estimate.update(count, inbox.last_handled, now))
        return any(waiting.values())

    async def _count_dead_letters(self) -> None:
        with contextlib.suppress(*CONNECTION_LOST):
            subscriptions = [inbox.consumer.subscription for inbox in self.inboxes]
            counts = await self.bus.count_dead_letters(subscriptions)
            for subscription in subscriptions:
                metrics.DEAD_LETTERS_OPEN.labels(subscription.service, subscription.channel).set(
                    counts.get(subscription.name, 0)
                )


async def observe_loop_lag() -> None:
    """How much later than asked a sleeper wakes: what every handler waits for the others."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LOOP_SECONDS
        await asyncio.sleep(_LOOP_SECONDS)
        metrics.EVENT_LOOP_LAG.observe(max(0.0, loop.time() - due))
