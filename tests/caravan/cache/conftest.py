"""A cache on the run's Valkey, and a second process' beside it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from redis.asyncio import Redis

from caravan.cache import Cache, Fill, SharedCache, TagKind
from caravan.live import ChangeNotifications
from caravan.runtime import Backends

LAMP = TagKind("lamp", "name", (), "a lamp changed")
LAMPS = Cache("shop.lamps", "a lamp", "name", (LAMP,), "public", seconds=60.0, lease_seconds=1.0)


class Source:
    """What is cached, with the number of times that it was read."""

    def __init__(self) -> None:
        self.value = b'"first"'
        self.reads = 0
        self.seconds = 0.0
        self.error: Exception | None = None

    def compute(self, *tags: str) -> Callable[[], Coroutine[Any, Any, Fill]]:
        async def read_source() -> Fill:
            self.reads += 1
            value = self.value
            await asyncio.sleep(self.seconds)
            if self.error:
                raise self.error
            return Fill(value, frozenset(tags or {LAMP("a")}))

        return read_source


@asynccontextmanager
async def open_cache(url: str) -> AsyncIterator[SharedCache]:
    """As one process has it."""
    redis, subscriber = Redis.from_url(url), Redis.from_url(url)
    changes = ChangeNotifications(redis, subscriber)
    listener = asyncio.create_task(changes.run())
    cache = SharedCache(redis, changes)
    try:
        yield cache
    finally:
        await cache.close()
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await listener
        await redis.aclose()
        await subscriber.aclose()


@pytest.fixture
async def redis(servers: Backends) -> AsyncIterator[Redis]:
    async with Redis.from_url(servers.redis_url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def cache(redis: Redis, servers: Backends) -> AsyncIterator[SharedCache]:
    async with open_cache(servers.redis_url) as opened:
        yield opened


@pytest.fixture
def source() -> Source:
    return Source()
