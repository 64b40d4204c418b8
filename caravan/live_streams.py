"""The live streams of one kind of thing, such as orders: a hub in each process reads each change once, encodes it once,
and hands it to all who watch.

The database is the truth. A change notification (`live.py`) only says what to read now; the hub also looks each second
at everything that is watched, so a lost one costs a second and no event. A watcher has a version and no buffer: what
the client has not had yet stands in the hub's topic until the client takes it, and one that takes nothing is cut off by
the server (`runtime/connections.py`).
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from caravan.live import ChangeNotifications
from caravan.telemetry import log
from caravan.telemetry.metrics import LIVE_DELIVERIES, LIVE_RESETS, LIVE_STREAMS

POLL_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
RETRY_SECONDS = (1.0, 5.0)
"""Between these a client waits before it connects again: those whose streams end together don't come back together."""
END_JITTER = 0.1
HEARTBEAT = b": still here\n\n"
NOTHING_MORE = b": nothing more\n\n"
"""After the last change: this stream has not ended for its time alone, and connecting again brings nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """`frame` is the encoded event. Nothing comes after one that `is_last`."""

    version: int
    frame: bytes
    is_last: bool = False


class LiveSource(Protocol):
    """Where changes are read. `subject` is that of the change notifications. `is_state`: each change holds all that
    there is to know, so a watcher is shown the newest and misses nothing by not seeing those before.
    """

    subject: str
    is_state: bool

    async def load_changes(self, versions: Mapping[str, int]) -> Mapping[str, Sequence[Change]]:
        """The changes of each key after its version, in order."""


def encode_change(name: str, version: int, data: Mapping[str, Any], *, is_last: bool = False) -> Change:
    return Change(version, b"id: %d\nevent: %s\ndata: %s\n\n" % (version, name.encode(), orjson.dumps(data)), is_last)


class _Watcher:
    __slots__ = ("_waiter", "ends_at", "sent_at", "version")

    def __init__(self, version: int, now: float, ends_at: float) -> None:
        self.version = version
        self.sent_at = now
        self.ends_at = ends_at
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(slots=True, eq=False)
class _Topic:
    """What is known of one key, and who watches it. `load_number` is that of the last load of the hub it was in,
    `awaited_load` that which the newest watcher waits for.
    """

    changes: list[Change] = field(default_factory=list)
    watchers: set[_Watcher] = field(default_factory=set)
    load_number: int = 0
    awaited_load: int = 0

    @property
    def version(self) -> int:
        return self.changes[-1].version if self.changes else 0

    def wake_watchers(self) -> None:
        for watcher in self.watchers:
            watcher.wake()


class LiveHub:
    """`async for part in hub.watch(key, after)`. `gap_seconds` is the least time between two loads: what changes more
    often is told at once.
    """

    def __init__(
        self,
        source: LiveSource,
        notifications: ChangeNotifications,
        *,
        stream_seconds: float = 600.0,
        gap_seconds: float = 0.0,
    ) -> None:
        self.open_streams = 0
        self._source = source
        self._stream_seconds = stream_seconds
        self._gap_seconds = gap_seconds
        self._topics: dict[str, _Topic] = {}
        self._stale_keys: set[str] = set()
        self._has_stale = asyncio.Event()
        self._load_number = 0
        self._load_task: asyncio.Task[None] | None = None
        notifications.add_listener(source.subject, self._mark_stale)

    async def watch(self, key: str, after: int) -> AsyncGenerator[bytes, None]:
        """The parts of one stream: the changes after a version, and then each as it happens.

        `reset` tells a client that the version it has seen is none of ours, as after a backup was restored: what it
        knows can't be continued, and what there is comes from the start.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._stream_seconds * random.uniform(1 - END_JITTER, 1)
        watcher = _Watcher(after, loop.time(), ends_at)
        topic = self._join(key, watcher)
        # What was read before may lack what the client has seen elsewhere: the first load from now on counts.
        first_load = topic.awaited_load = self._load_number + 1
        try:
            yield b"retry: %d\n\n" % (random.uniform(*RETRY_SECONDS) * 1000)
            while True:
                now = loop.time()
                if topic.load_number >= first_load:
                    if watcher.version > topic.version:
                        LIVE_RESETS.labels(self._source.subject).inc()
                        watcher.version = 0
                        yield b"event: reset\ndata: %s\n\n" % orjson.dumps({"version": topic.version})
                    unsent = [change for change in topic.changes if change.version > watcher.version]
                    if unsent:
                        watcher.version, watcher.sent_at = unsent[-1].version, now
                        LIVE_DELIVERIES.labels(self._source.subject).inc(len(unsent))
                        yield unsent[0].frame if len(unsent) == 1 else b"".join([change.frame for change in unsent])
                        continue  # there may be more by now
                    if topic.changes and topic.changes[-1].is_last:
                        yield NOTHING_MORE
                        return
                if now >= ends_at:
                    return
                if now - watcher.sent_at >= HEARTBEAT_SECONDS:
                    watcher.sent_at = now
                    yield HEARTBEAT
                    continue
                await watcher.wait()
        finally:
            self._leave(key, topic, watcher)

    def _join(self, key: str, watcher: _Watcher) -> _Topic:
        topic = self._topics.setdefault(key, _Topic())
        topic.watchers.add(watcher)
        self._count_streams(1)
        self._mark_stale([key])
        if self._load_task is None or self._load_task.done():
            self._load_task = asyncio.create_task(self._keep_loading(), name=f"live {self._source.subject}")
        return topic

    def _leave(self, key: str, topic: _Topic, watcher: _Watcher) -> None:
        topic.watchers.discard(watcher)
        self._count_streams(-1)
        if not topic.watchers:
            self._topics.pop(key, None)
            self._stale_keys.discard(key)

    def _count_streams(self, by: int) -> None:
        self.open_streams += by
        LIVE_STREAMS.labels(self._source.subject).set(self.open_streams)

    def _mark_stale(self, keys: Sequence[str]) -> None:
        if watched := self._topics.keys() & keys:
            self._stale_keys |= watched
            self._has_stale.set()

    async def _keep_loading(self) -> None:
        """While somebody watches: loads what is stale at once, and everything each second."""
        loop = asyncio.get_running_loop()
        polled_at = loop.time()
        while self._topics:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(polled_at + POLL_SECONDS):
                    await self._has_stale.wait()
            if loop.time() >= polled_at + POLL_SECONDS:
                polled_at = loop.time()
                self._stale_keys |= self._topics.keys()
                self._wake_due(polled_at)
            self._has_stale.clear()
            keys, self._stale_keys = self._stale_keys, set()
            try:
                await self._load(keys)
            except Exception as error:  # whatever it is, those who watch wait for it to pass
                log.warning("live changes can't be read", subject=self._source.subject, error=repr(error))
                self._stale_keys |= keys
                await asyncio.sleep(POLL_SECONDS)
                self._has_stale.set()
            if self._gap_seconds:
                await asyncio.sleep(self._gap_seconds)

    async def _load(self, keys: set[str]) -> None:
        topics = {key: topic for key in keys if (topic := self._topics.get(key)) is not None}
        if not topics:
            return
        self._load_number += 1
        load_number = self._load_number
        changes = await self._source.load_changes({key: topic.version for key, topic in topics.items()})
        for key, topic in topics.items():
            is_awaited = topic.load_number < topic.awaited_load <= load_number
            topic.load_number = load_number
            if new := changes.get(key):
                topic.changes = list(new) if self._source.is_state else [*topic.changes, *new]
            if new or is_awaited:
                topic.wake_watchers()

    def _wake_due(self, now: float) -> None:
        """Those whose stream ends, or to whom nothing was sent for long."""
        for topic in self._topics.values():
            for watcher in topic.watchers:
                if now >= watcher.ends_at or now - watcher.sent_at >= HEARTBEAT_SECONDS:
                    watcher.wake()
