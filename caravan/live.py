"""Change notifications over Redis pub/sub: "something about X has changed, read it again". A lost one is made up for by
the reader's own poll.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from caravan.telemetry import log

_RECONNECT_SECONDS = 1.0


class ChangeNotifications:
    """`publish("orders", [id, ...])`; `async with live.listen("orders", id) as changed: await changed.wait()`."""

    def __init__(self, redis: Redis, subscriber: Redis) -> None:
        self._redis = redis
        self._subscriber = subscriber  # its own: a subscription waits without a time limit
        self._listeners: dict[tuple[str, str], set[asyncio.Event]] = {}
        self._hubs: defaultdict[str, list[Callable[[Sequence[str]], None]]] = defaultdict(list)

    async def publish(self, subject: str, keys: list[str]) -> None:
        """Notify every process that these keys of a subject changed. Silent when Redis is unavailable: readers poll,
        too.

        This process hears its own notification from Redis, too: so its listeners are called here only without Redis.
        """
        self._set_events(subject, keys)
        try:
            await self._redis.publish(f"live:{subject}", orjson.dumps(keys))
        except (RedisError, OSError, TimeoutError):
            self._call_listeners(subject, keys)

    @asynccontextmanager
    async def listen(self, subject: str, key: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set when the key changes; the reader clears it. Notifications don't queue up."""
        event = asyncio.Event()
        events = self._listeners.setdefault((subject, key), set())
        events.add(event)
        try:
            yield event
        finally:
            events.discard(event)
            if not events:
                self._listeners.pop((subject, key), None)

    def add_listener(self, subject: str, listener: Callable[[Sequence[str]], None]) -> None:
        """Call `listener` with the keys of each notification of a subject, as long as the process runs."""
        self._hubs[subject].append(listener)

    async def run(self) -> None:
        """Receive the notifications of all processes, for ever; reconnects."""
        while True:
            try:
                async with self._subscriber.pubsub() as channel:
                    await channel.psubscribe("live:*")
                    async for message in channel.listen():
                        if message["type"] == "pmessage":
                            subject = message["channel"].decode().removeprefix("live:")
                            keys = orjson.loads(message["data"])
                            self._set_events(subject, keys)
                            self._call_listeners(subject, keys)
            except (RedisError, OSError, TimeoutError) as error:
                log.info("the change listener waits for redis", error=repr(error))
                await asyncio.sleep(_RECONNECT_SECONDS)

    def _call_listeners(self, subject: str, keys: list[str]) -> None:
        for listener in self._hubs[subject]:
            listener(keys)

    def _set_events(self, subject: str, keys: list[str]) -> None:
        if not self._listeners:
            return
        for key in keys:
            for event in self._listeners.get((subject, key), ()):
                event.set()
