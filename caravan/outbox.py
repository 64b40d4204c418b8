"""The relay: moves outbox rows to the bus in order, and removes a row only after the bus took it.

One relay per service runs at a time (an advisory lock), because two would break the order per key. It is woken by the commit, by a notification from other
replicas, and by a slow poll that covers whatever was lost.
"""

import asyncio
from contextlib import suppress

import asyncpg

from caravan import crash, telemetry
from caravan.bus import Bus
from caravan.database import CONNECTION_LOST, Database
from caravan.leadership import Leadership
from caravan.messages import Outgoing
from caravan.telemetry import log

BATCH = 500
POLL_SECONDS = 0.5
LINGER_SECONDS = 0.03
"""Least time between two batches: a lone message never waits for it, under load it makes batches larger and their number smaller."""
BACKOFF_SECONDS = (0.05, 0.2, 1.0, 3.0)


class Relay:
    def __init__(self, database: Database, bus: Bus, leadership: Leadership) -> None:
        self.database = database
        self.bus = bus
        self.leadership = leadership
        self._pending = telemetry.OUTBOX_PENDING.labels(database.service)
        self._age = telemetry.OUTBOX_AGE.labels(database.service)
        self._stopping = False

    async def run(self) -> None:
        """Until cancelled, or after `stop` until what is committed has been sent."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            try:
                if not await self.leadership.hold("relay"):
                    if self._stopping:
                        return
                    await self._announce_to_leader()
                    continue
                self.database.outbox_written.clear()
                started = loop.time()
                moved = await self._move()
                failures = 0
                if 0 < moved < BATCH and (rest := started + LINGER_SECONDS - loop.time()) > 0 and not self._stopping:
                    await asyncio.sleep(rest)
                if moved == 0:
                    if self._stopping:
                        return
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.database.outbox_written.wait(), POLL_SECONDS)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # bus or database away, or a fault of ours: rows stay where they are
                if self._stopping and failures > 3:
                    raise
                failures += 1
                level = log.warning if isinstance(error, CONNECTION_LOST) else log.error
                level("relay waits", service=self.database.service, error=repr(error))
                await self.measure()
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1])

    def stop(self) -> None:
        self._stopping = True
        self.database.outbox_written.set()

    async def _announce_to_leader(self) -> None:
        """Another replica relays: tell it that there is work, at most every few milliseconds, and look again now and then whether it is gone."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.database.outbox_written.wait(), POLL_SECONDS)
            self.database.outbox_written.clear()
            await self.leadership.notify("outbox")
            await asyncio.sleep(0.005)

    async def _move(self) -> int:
        rows = await self.database.fetch("SELECT id, message_id, kind, channel, route, key, body FROM outbox ORDER BY id LIMIT $1", BATCH)
        if not rows:
            return 0
        crash.point("relay.before_send")
        await self.bus.publish(
            [Outgoing(row["kind"], row["channel"], row["route"], row["key"], row["message_id"], row["body"]) for row in rows]
        )
        crash.point("relay.after_confirm_before_mark")
        await self.database.fetch("DELETE FROM outbox WHERE id = ANY($1)", [row["id"] for row in rows])
        for row in rows:
            telemetry.PUBLISHED.labels(self.database.service, row["channel"]).inc()
        return len(rows)

    async def measure(self) -> None:
        """Set the gauges of what is waiting."""
        with suppress(*CONNECTION_LOST, asyncpg.PostgresError):
            row = await self.database.fetchrow(
                "SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::float FROM outbox"
            )
            if row is not None:
                self._pending.set(row[0])
                self._age.set(row[1])


async def pending(database: Database) -> int:
    """Rows that the bus has not taken yet."""
    return int(await database.fetchval("SELECT count(*) FROM outbox"))
