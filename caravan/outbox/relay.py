"""The relay: moves outbox rows to the bus in order, and removes a row only after the bus took it.

A channel that takes nothing is paused, and the others go on. A row that can never be sent is set aside with its reason,
and blocks only the later rows of its key (`dead_letters.py` lists it).

One relay per service runs at a time (an advisory lock), because two would break the order per key. It is woken by the
commit, by a notification from other replicas, and by a slow poll that covers whatever was lost; where no notification
can arrive the poll is fast.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

import asyncpg
from sqlalchemy import bindparam, cast, exists, extract, func, select, update
from sqlalchemy.orm import aliased

from caravan import failpoint, fault_flags, telemetry
from caravan.backoff import compute_backoff
from caravan.bus import Bus, PublishError, PublishFailure
from caravan.concurrency import raise_if_cancelled
from caravan.database import CONNECTION_LOST, WITHOUT_SYNC_COMMIT, Database
from caravan.database.kernel_tables import Outbox
from caravan.database.query import Query
from caravan.database.tables import DOUBLE_PRECISION, col
from caravan.leadership import Leadership
from caravan.messages import OutgoingMessage
from caravan.telemetry import log, metrics

_BATCH_SIZE = 500
_POLL_SECONDS = 0.5
_NOTIFIED_POLL_SECONDS = 5.0
"""Of a relay that hears of every commit."""
UNREMOVED_SECONDS = 0.5
"""So long the rows of a batch that was sent wait at most for the next look, which removes them: under load one
statement does both.
"""
LINGER_SECONDS = 0.03
"""Least time between two batches: a lone message never waits for it, under load it makes batches larger and their
number smaller.
"""
_FETCH_ROWS = f"""WITH gone AS (DELETE FROM outbox WHERE id = ANY($3) AND {WITHOUT_SYNC_COMMIT})
    SELECT id, message_id, kind, channel, route, key, body,
        extract(epoch FROM clock_timestamp() - created_at)::float AS age
    FROM outbox WHERE channel <> ALL($2) AND id <> ALL($3)"""
"""What was sent goes in the same statement that looks for more: a round trip less for each batch."""
_UNBLOCKED_ONLY = """ AND refused_at IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM outbox r WHERE r.refused_at IS NOT NULL AND r.channel = outbox.channel AND r.key = outbox.key)"""
_FETCH_BATCH = f"{_FETCH_ROWS} ORDER BY id LIMIT $1"
_FETCH_UNBLOCKED = f"{_FETCH_ROWS}{_UNBLOCKED_ONLY} ORDER BY id LIMIT $1"


class OutboxSize(NamedTuple):
    pending: int
    oldest_seconds: float
    refused: int


_HAS_REFUSED = Query(select(exists().where(col(Outbox.refused_at).is_not(None))), bool)
_REFUSE = Query(
    update(Outbox).where(col(Outbox.id) == bindparam("row_id")).values(refused_at=func.now(), reason=bindparam("why"))
)
_COUNT = Query(select(func.count()).select_from(Outbox), int)
_Refused = aliased(Outbox)
_IS_BLOCKED = exists().where(
    col(_Refused.refused_at).is_not(None),
    col(_Refused.channel) == col(Outbox.channel),
    col(_Refused.key) == col(Outbox.key),
)
_OLDEST = func.min(col(Outbox.created_at)).filter(~_IS_BLOCKED)
"""What was refused, and what waits behind it, is told by the number of refused ones: the relay itself goes on."""
_MEASURE = Query(
    select(
        func.count(),
        cast(func.coalesce(extract("epoch", func.now() - _OLDEST), 0), DOUBLE_PRECISION),
        func.count(col(Outbox.refused_at)),
    ).select_from(Outbox),
    OutboxSize,
)


class OutboxRelay:
    def __init__(self, database: Database, bus: Bus, leadership: Leadership) -> None:
        self.database = database
        self.bus = bus
        self.leadership = leadership
        self._pending_gauge = metrics.OUTBOX_PENDING.labels(database.service)
        self._age_gauge = metrics.OUTBOX_AGE.labels(database.service)
        self._refused_gauge = metrics.OUTBOX_REFUSED.labels(database.service)
        self._lag_histogram = metrics.OUTBOX_LAG.labels(database.service)
        self._is_stopping = False
        self._may_have_refused = True
        """Whether rows may have been refused; looked up until there is none, so that the usual statement stays
        simple.
        """
        self._sent_ids: list[int] = []
        """Rows that the bus took and that are still there. Dying with them sends them again, which an inbox notices."""
        self._paused_channels: dict[str, tuple[float, int]] = {}
        """Channels that took nothing: until when they are left alone, and how often in a row that was."""

    async def run(self) -> None:
        """Until cancelled, or after `stop` until what is committed has been sent."""
        loop = asyncio.get_running_loop()
        telemetry.service_name.set(self.database.service)
        failures = 0
        while True:
            try:
                if not await self.leadership.try_lead("relay"):
                    self._may_have_refused = True
                    if self._is_stopping:
                        return
                    await self._notify_leader()
                    continue
                self.database.outbox_written.clear()
                started_at = loop.time()
                row_count = await self.relay_batch()
                failures = 0
                if (
                    0 < row_count < _BATCH_SIZE
                    and (pause := started_at + LINGER_SECONDS - loop.time()) > 0
                    and not self._is_stopping
                ):
                    await asyncio.sleep(pause)
                if row_count < _BATCH_SIZE and not (
                    row_count and (self._is_stopping or not self.leadership.receives_notifications)
                ):
                    if self._is_stopping:
                        return
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._choose_poll_seconds()):
                            await self.database.outbox_written.wait()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # bus or database unavailable, or a fault of ours: rows stay where they are
                raise_if_cancelled(error)
                if self._is_stopping and failures > 3:
                    raise
                failures += 1
                level = log.warning if isinstance(error, CONNECTION_LOST) else log.error
                level("relay is retrying", service=self.database.service, error=repr(error))
                await self.update_gauges()
                await asyncio.sleep(compute_backoff(failures))

    def stop(self) -> None:
        self._is_stopping = True
        self.database.outbox_written.set()

    def _choose_poll_seconds(self) -> float:
        """Seconds until the next look at an outbox of which nobody tells anything; a channel that rests is tried again
        at its time.
        """
        now = asyncio.get_running_loop().time()
        pauses = [until - now for until, _ in self._paused_channels.values() if until > now]
        pauses += [UNREMOVED_SECONDS] if self._sent_ids else []
        return min([self.leadership.choose_poll_seconds(_NOTIFIED_POLL_SECONDS, _POLL_SECONDS), *pauses])

    async def _notify_leader(self) -> None:
        """Another replica relays: tell it that there is work, at most every few milliseconds, and look again now and
        then whether it is gone.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await self.database.outbox_written.wait()
            self.database.outbox_written.clear()
            await self.leadership.notify("outbox")
            await asyncio.sleep(0.005)

    async def relay_batch(self) -> int:
        """Remove what was sent, and send what is next; how many rows there were. 0: the outbox has nothing to send."""
        if fault_flags.active:
            fault_flags.fail(fault_flags.OUTBOX_BLOCKED, self.database.service)
        now = asyncio.get_running_loop().time()
        paused = [channel for channel, (until, _) in self._paused_channels.items() if until > now]
        if self._may_have_refused:
            self._may_have_refused = bool(await _HAS_REFUSED.fetch_value(self.database))
        rows = await self.database.fetch(
            _FETCH_UNBLOCKED if self._may_have_refused else _FETCH_BATCH,
            _BATCH_SIZE,
            paused,
            self._sent_ids,
        )
        self._sent_ids = []
        if not rows:
            return 0
        read_at = asyncio.get_running_loop().time()
        failpoint.hit("relay.before_send")
        messages = [
            OutgoingMessage(row["kind"], row["channel"], row["route"], row["key"], row["message_id"], row["body"])
            for row in rows
        ]
        failures = await self._publish(messages)
        failpoint.hit("relay.after_confirm_before_mark")
        published = (
            [row for row, message in zip(rows, messages, strict=True) if message not in failures] if failures else rows
        )
        self._sent_ids = [row["id"] for row in published]
        publish_seconds = asyncio.get_running_loop().time() - read_at
        for row in published:
            self._lag_histogram.observe(row["age"] + publish_seconds)
        for channel, count in Counter(row["channel"] for row in published).items():
            metrics.MESSAGES_PUBLISHED.labels(self.database.service, channel).inc(count)
            self._paused_channels.pop(channel, None)
        if failures:
            await self._handle_failures(
                {
                    row["id"]: failures[message]
                    for row, message in zip(rows, messages, strict=True)
                    if message in failures
                },
                now,
            )
        return len(rows) if published else 0

    async def _publish(self, messages: list[OutgoingMessage]) -> dict[OutgoingMessage, PublishFailure]:
        """Those that the bus did not take."""
        if fault_flags.active and fault_flags.is_on(fault_flags.MESSAGE_REFUSED, self.database.service):
            reason = f"the fault {fault_flags.MESSAGE_REFUSED} is on"
            return {message: PublishFailure(message, reason, permanent=True) for message in messages}
        try:
            await self.bus.publish(messages)
        except PublishError as error:
            return {failure.message: failure for failure in error.failures}
        return {}

    async def _handle_failures(self, failures: dict[int, PublishFailure], now: float) -> None:
        for failure in failures.values():
            if not failure.permanent and self._paused_channels.get(failure.message.channel, (0.0, 0))[0] <= now:
                failure_count = self._paused_channels.get(failure.message.channel, (0.0, 0))[1] + 1
                self._paused_channels[failure.message.channel] = (now + compute_backoff(failure_count), failure_count)
                log.warning(
                    "channel paused",
                    service=self.database.service,
                    channel=failure.message.channel,
                    reason=failure.reason,
                )
        for row_id, failure in failures.items():
            if failure.permanent:
                self._may_have_refused = True
                log.error(
                    "message refused",
                    service=self.database.service,
                    channel=failure.message.channel,
                    reason=failure.reason,
                )
                await _REFUSE.execute(self.database, row_id=row_id, why=failure.reason[:2000])
        await self.update_gauges()

    async def update_gauges(self) -> None:
        """Set the gauges of what is waiting."""
        with suppress(*CONNECTION_LOST, asyncpg.PostgresError):
            measured = await _MEASURE.fetch_one(self.database)
            if measured is not None:
                self._pending_gauge.set(measured.pending)
                self._age_gauge.set(measured.oldest_seconds)
                self._refused_gauge.set(measured.refused)


async def count_pending(database: Database) -> int:
    """Rows that the bus has not taken yet."""
    return await _COUNT.fetch_value(database) or 0
