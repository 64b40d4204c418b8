"""Users' lists in Redis. A list is good while the two tokens that it was stored under are current: the user's, and that
of the catalogue and its stock.

Redis is optional. While it is unavailable, lists are computed, it is tried again after a second, and invalidations that
could not be made are made before anything is read from it again.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from caravan.clock import new_id
from caravan.telemetry import log

UNAVAILABLE_SECONDS = 1.0
TIMEOUT_SECONDS = 0.5
"""A list is computed in less."""
JITTER = 0.2
CATALOG_KEY = "recommendations:all"
RENEW_SCRIPT = "for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'EX', ARGV[2]) end return 1"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """`stamp` is what a list that is computed now must be stored under; None: don't store it."""

    body: bytes | None
    stamp: bytes | None


MISS = CacheEntry(None, None)


class RecommendationCache:
    def __init__(self, redis: Redis, seconds: int) -> None:
        self._redis = redis
        self._seconds = seconds
        self._unavailable_until = 0.0
        self._has_missed_invalidation = False

    async def read_list(self, user_id: UUID, limit: int) -> CacheEntry:
        if self._has_missed_invalidation:
            await self.invalidate_all()
        if self._has_missed_invalidation:
            return MISS
        values = await self._call_redis(
            lambda: self._redis.mget(_build_list_key(user_id, limit), CATALOG_KEY, _build_user_key(user_id))
        )
        if values is None:
            return MISS
        entry, catalog_token, user_token = values
        stamp = b"%s %s" % (catalog_token or b"-", user_token or b"-")
        entry_stamp, _, body = (entry or b"").partition(b"\n")
        return CacheEntry(body if entry_stamp == stamp else None, stamp)

    async def write_list(self, user_id: UUID, limit: int, stamp: bytes | None, body: bytes) -> None:
        if stamp is not None:
            milliseconds = round(self._seconds * 1000 * random.uniform(1 - JITTER, 1 + JITTER))
            await self._call_redis(
                lambda: self._redis.set(_build_list_key(user_id, limit), stamp + b"\n" + body, px=milliseconds)
            )

    async def invalidate_users(self, users: Collection[UUID]) -> None:
        """Give these users new tokens. A token outlives every list that was made without it."""
        keys = [_build_user_key(user_id) for user_id in users]
        reply = await self._call_redis(
            lambda: self._redis.eval(RENEW_SCRIPT, len(keys), *keys, str(new_id()), str(self._seconds * 3))
        )
        self._has_missed_invalidation = self._has_missed_invalidation or reply is None

    async def invalidate_all(self) -> None:
        """The catalogue or the stock has changed; also done when an invalidation was missed."""
        reply = await self._call_redis(lambda: self._redis.set(CATALOG_KEY, str(new_id())))
        self._has_missed_invalidation = reply is None

    async def _call_redis(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """What Redis answers, or None while it is unavailable."""
        if time.monotonic() < self._unavailable_until:
            return None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await call()
        except (RedisError, OSError, TimeoutError) as error:
            self._unavailable_until = time.monotonic() + UNAVAILABLE_SECONDS
            log.warning("cache unavailable", error=repr(error))
            return None


def _build_list_key(user_id: UUID, limit: int) -> str:
    return f"recommendations:list:{user_id}:{limit}"


def _build_user_key(user_id: UUID) -> str:
    return f"recommendations:user:{user_id}"
