"""The relay: moves outbox rows to the bus in order, and removes a row only after the bus took it.

A channel that takes nothing rests, and the others go on. A row that can never be sent is set aside with its reason, and holds back only the later rows of its
key (`caravan/bus/failures.py` lists it).

One relay per service runs at a time (an advisory lock), because two would break the order per key. It is woken by the commit, by a notification from other
replicas, and by a slow poll that covers whatever was lost; where no notification can arrive the poll is fast.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import asyncpg

from caravan import crash, telemetry
from caravan.bus import Bus, DeadLetter, Trouble, Undelivered
from caravan.bus.reader import backoff
from caravan.database import CONNECTION_LOST, LAZILY, Database
from caravan.leadership import Leadership
from caravan.messages import Outgoing
from caravan.telemetry import log

BATCH = 500
POLL_SECONDS = 0.5
HEARD_POLL_SECONDS = 5.0
"""Of a relay that hears of every commit."""
UNREMOVED_SECONDS = 0.5
"""So long the rows of a batch that was sent wait at most for the next look, which removes them: under load one statement does both."""
LINGER_SECONDS = 0.03
"""Least time between two batches: a lone message never waits for it, under load it makes batches larger and their number smaller."""
STALE_SECONDS = 300.0
"""A row that the bus has not taken for so long is a failure that somebody should see."""
_NEXT = f"""WITH gone AS (DELETE FROM outbox WHERE id = ANY($3) AND {LAZILY})
    SELECT id, message_id, kind, channel, route, key, body, extract(epoch FROM clock_timestamp() - created_at)::float AS age
    FROM outbox WHERE channel <> ALL($2) AND id <> ALL($3){{held_back}} ORDER BY id LIMIT $1"""
"""What was sent goes in the same statement that looks for more: a round trip less for each batch."""
_HELD_BACK = """ AND refused_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM outbox r WHERE r.refused_at IS NOT NULL AND r.channel = outbox.channel AND r.key = outbox.key)"""


class Relay:
    def __init__(self, database: Database, bus: Bus, leadership: Leadership) -> None:
        self.database = database
        self.bus = bus
        self.leadership = leadership
        self._pending = telemetry.OUTBOX_PENDING.labels(database.service)
        self._age = telemetry.OUTBOX_AGE.labels(database.service)
        self._refused = telemetry.OUTBOX_REFUSED.labels(database.service)
        self._lag = telemetry.OUTBOX_LAG.labels(database.service)
        self._stopping = False
        self._some_refused = True
        """Whether rows may have been refused; looked up until there is none, so that the usual statement stays simple."""
        self._sent: list[int] = []
        """Rows that the bus took and that are still there. Dying with them sends them again, which an inbox notices."""
        self._resting: dict[str, tuple[float, int]] = {}
        """Channels that took nothing: until when they are left alone, and how often in a row that was."""

    async def run(self) -> None:
        """Until cancelled, or after `stop` until what is committed has been sent."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            try:
                if not await self.leadership.hold("relay"):
                    self._some_refused = True
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
                if moved < BATCH and not (moved and (self._stopping or not self.leadership.hears)):
                    if self._stopping:
                        return
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._patience()):
                            await self.database.outbox_written.wait()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # bus or database away, or a fault of ours: rows stay where they are
                if self._stopping and failures > 3:
                    raise
                failures += 1
                level = log.warning if isinstance(error, CONNECTION_LOST) else log.error
                level("relay waits", service=self.database.service, error=repr(error))
                await self.measure()
                await asyncio.sleep(backoff(failures))

    def stop(self) -> None:
        self._stopping = True
        self.database.outbox_written.set()

    def _patience(self) -> float:
        """Seconds until the next look at an outbox of which nobody tells anything; a channel that rests is tried again at its time."""
        now = asyncio.get_running_loop().time()
        rests = [until - now for until, _ in self._resting.values() if until > now]
        rests += [UNREMOVED_SECONDS] if self._sent else []
        return min([self.leadership.patience(HEARD_POLL_SECONDS, POLL_SECONDS), *rests])

    async def _announce_to_leader(self) -> None:
        """Another replica relays: tell it that there is work, at most every few milliseconds, and look again now and then whether it is gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self.database.outbox_written.wait()
            self.database.outbox_written.clear()
            await self.leadership.notify("outbox")
            await asyncio.sleep(0.005)

    async def _move(self) -> int:
        now = asyncio.get_running_loop().time()
        resting = [channel for channel, (until, _) in self._resting.items() if until > now]
        if self._some_refused:
            self._some_refused = await self.database.fetchval("SELECT EXISTS (SELECT 1 FROM outbox WHERE refused_at IS NOT NULL)")
        rows = await self.database.fetch(_NEXT.format(held_back=_HELD_BACK if self._some_refused else ""), BATCH, resting, self._sent)
        self._sent = []
        if not rows:
            return 0
        read = asyncio.get_running_loop().time()
        crash.point("relay.before_send")
        messages = [Outgoing(row["kind"], row["channel"], row["route"], row["key"], row["message_id"], row["body"]) for row in rows]
        troubles: dict[Outgoing, Trouble] = {}
        try:
            await self.bus.publish(messages)
        except Undelivered as error:
            troubles = {trouble.message: trouble for trouble in error.troubles}
        crash.point("relay.after_confirm_before_mark")
        taken = [row for row, message in zip(rows, messages, strict=True) if message not in troubles] if troubles else rows
        self._sent = [row["id"] for row in taken]
        publishing = asyncio.get_running_loop().time() - read
        for row in taken:
            self._lag.observe(row["age"] + publishing)
        for channel, count in Counter(row["channel"] for row in taken).items():
            telemetry.PUBLISHED.labels(self.database.service, channel).inc(count)
            self._resting.pop(channel, None)
        if troubles:
            await self._put_off(
                {row["id"]: troubles[message] for row, message in zip(rows, messages, strict=True) if message in troubles}, now
            )
        return len(rows) if taken else 0

    async def _put_off(self, troubles: dict[int, Trouble], now: float) -> None:
        for trouble in troubles.values():
            if not trouble.for_good and self._resting.get(trouble.message.channel, (0.0, 0))[0] <= now:
                failures = self._resting.get(trouble.message.channel, (0.0, 0))[1] + 1
                self._resting[trouble.message.channel] = (now + backoff(failures), failures)
                log.warning("channel rests", service=self.database.service, channel=trouble.message.channel, reason=trouble.reason)
        for row, trouble in troubles.items():
            if trouble.for_good:
                self._some_refused = True
                log.error("message refused", service=self.database.service, channel=trouble.message.channel, reason=trouble.reason)
                await self.database.fetch("UPDATE outbox SET refused_at = now(), reason = $2 WHERE id = $1", row, trouble.reason[:2000])
        await self.measure()

    async def measure(self) -> None:
        """Set the gauges of what is waiting."""
        with suppress(*CONNECTION_LOST, asyncpg.PostgresError):
            row = await self.database.fetchrow(
                "SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::float, count(refused_at) FROM outbox"
            )
            if row is not None:
                self._pending.set(row[0])
                self._age.set(row[1])
                self._refused.set(row[2])


async def pending(database: Database) -> int:
    """Rows that the bus has not taken yet."""
    return int(await database.fetchval("SELECT count(*) FROM outbox"))


class Unsent:
    """The outbox as a place of the failure desk: rows that the bus refused for good, and those that wait for too long."""

    place: Literal["outbox"] = "outbox"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def letters(self, limit: int, preview: int) -> list[DeadLetter]:
        rows = await self._database.fetch(
            "SELECT id::text, channel, key, substr(body, 1, $2) AS body, length(body) AS size, refused_at, created_at, coalesce(reason, CASE WHEN EXISTS ("
            "SELECT 1 FROM outbox r WHERE r.refused_at IS NOT NULL AND r.channel = o.channel AND r.key = o.key)"
            " THEN 'waits behind a refused row of its key' ELSE 'the bus has not taken it for minutes; it is sent as soon as it does' END) AS reason"
            " FROM outbox o WHERE refused_at IS NOT NULL OR created_at < now() - make_interval(secs => $3) ORDER BY o.id LIMIT $1",
            limit,
            preview,
            STALE_SECONDS,
        )
        return [
            DeadLetter(
                id=row["id"],
                subscription=f"{self._database.service}.outbox",
                channel=row["channel"],
                key=row["key"],
                body=row["body"],
                reason=row["reason"],
                attempt=1,
                died_at=row["refused_at"] or row["created_at"],
                size=row["size"],
                whole=row["refused_at"] is not None,
            )
            for row in rows
        ]

    async def redrive(self, letters: Sequence[DeadLetter]) -> int:
        """Let the relay try again, in the rows' order."""
        rows = await self._database.fetch(
            "UPDATE outbox SET refused_at = NULL, reason = NULL WHERE id = ANY($1) AND refused_at IS NOT NULL RETURNING id", _ids(letters)
        )
        self._database.outbox_written.set()
        return len(rows)

    async def discard(self, letters: Sequence[DeadLetter]) -> int:
        rows = await self._database.fetch("DELETE FROM outbox WHERE id = ANY($1) AND refused_at IS NOT NULL RETURNING id", _ids(letters))
        self._database.outbox_written.set()
        return len(rows)


def _ids(letters: Sequence[DeadLetter]) -> list[int]:
    return [int(letter.id) for letter in letters]
