"""Users' lists in Redis. A list is good while the tokens it was made under are in force: the user's own, and that of the catalogue and its stock.

Redis is a help, never a condition: away, it is asked again after a second, lists are computed meanwhile, and what could not be invalidated is so before
anything is read again.
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

AWAY_SECONDS = 1.0
PATIENCE_SECONDS = 0.5
"""A list is computed in less."""
JITTER = 0.2
EVERYBODY = "recommendations:all"
RENEW = "for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'EX', ARGV[2]) end return 1"


@dataclass(frozen=True, slots=True)
class Found:
    """`stamp` is what a list that is computed now must be stored under; None: don't store it."""

    body: bytes | None
    stamp: bytes | None


NOTHING = Found(None, None)


class Cache:
    def __init__(self, redis: Redis, seconds: int) -> None:
        self._redis = redis
        self._seconds = seconds
        self._away_until = 0.0
        self._missed = False

    async def read(self, user_id: UUID, limit: int) -> Found:
        if self._missed:
            await self.forget_all()
        if self._missed:
            return NOTHING
        values = await self._ask(lambda: self._redis.mget(_list(user_id, limit), EVERYBODY, _own(user_id)))
        if values is None:
            return NOTHING
        entry, everybody, own = values
        stamp = b"%s %s" % (everybody or b"-", own or b"-")
        made_under, _, body = (entry or b"").partition(b"\n")
        return Found(body if made_under == stamp else None, stamp)

    async def write(self, user_id: UUID, limit: int, stamp: bytes | None, body: bytes) -> None:
        if stamp is not None:
            milliseconds = round(self._seconds * 1000 * random.uniform(1 - JITTER, 1 + JITTER))
            await self._ask(lambda: self._redis.set(_list(user_id, limit), stamp + b"\n" + body, px=milliseconds))

    async def forget_users(self, users: Collection[UUID]) -> None:
        """Give these users new tokens. A token outlives every list that was made without it."""
        keys = [_own(user_id) for user_id in users]
        done = await self._ask(lambda: self._redis.eval(RENEW, len(keys), *keys, str(new_id()), str(self._seconds * 3)))
        self._missed = self._missed or done is None

    async def forget_all(self) -> None:
        """The catalogue or the stock has changed; also done when an invalidation was missed."""
        done = await self._ask(lambda: self._redis.set(EVERYBODY, str(new_id())))
        self._missed = done is None

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """What Redis answers, or None while it is away."""
        if time.monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await call()
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            log.warning("cache away", error=repr(error))
            return None


def _list(user_id: UUID, limit: int) -> str:
    return f"recommendations:list:{user_id}:{limit}"


def _own(user_id: UUID) -> str:
    return f"recommendations:user:{user_id}"
