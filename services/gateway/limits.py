"""Rate limits per user and route class, counted in Redis for all replicas.

Most requests cost no round trip: a replica takes tokens from Redis in chunks of a hundredth of the limit and spends
them itself. In any minute a user may get at most the limit and, for each replica, what was left of the chunk it had
taken before: less than one chunk. Unspent tokens end with their minute.

While Redis is unavailable nothing is refused for that reason: every replica counts by itself, from zero, so that N
replicas let through up to N times each limit. Guessing passwords stays bounded, and identity has counters of its own.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from caravan.errors import TooManyRequests
from caravan.fifo_cache import FifoCache
from caravan.telemetry import log
from services.gateway.metrics import COUNTING_LOCALLY, LIMITED_REQUESTS
from services.gateway.settings import Settings

WINDOW_SECONDS = 60
CHUNKS_PER_LIMIT = 100
MAX_LEASES = 50_000
REDIS_TIMEOUT_SECONDS = 0.25
UNAVAILABLE_SECONDS = 1.0
RECHECK_SECONDS = 1.0
"""A refusal is repeated without asking Redis for at most this long."""

READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class RateClass:
    """A route class: at most `most` requests in `seconds`. `by_address`: whoever has not shown a password yet is known
    by the address only.
    """

    name: str
    max_requests: int
    is_by_address: bool = False
    seconds: int = WINDOW_SECONDS
    limit_item: RateLimitItemPerSecond = field(init=False)
    chunk_size: int = field(init=False)
    policy_header: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "limit_item", RateLimitItemPerSecond(self.max_requests, self.seconds, namespace=self.name)
        )
        object.__setattr__(self, "chunk_size", max(1, self.max_requests // CHUNKS_PER_LIMIT))
        object.__setattr__(self, "policy_header", f'"{self.name}";q={self.max_requests};w={self.seconds}'.encode())


class RateClasses:
    """The class of a route. The templates named here are those that need a class of their own; a test finds each in the
    merged OpenAPI document.
    """

    AUTH_PATHS = (
        "/v1/auth/token",
        "/v1/auth/revoke",
        "/v1/auth/password-reset",
        "/v1/auth/password-reset/confirm",
        "/v1/auth/password-reset/page",
        "/v1/auth/verification/page",
        "/v1/users/me/verification",
        "/v1/users/me/password",
    )
    AUTH_CLASS = "auth"
    REGISTRATION_PATH = "/v1/users"
    ORDERS_PATH = "/v1/orders"
    GRAPH_PATH = "/graphql"
    """Counted as a read; each mutation counts as the write that it is, beside it."""

    def __init__(self, settings: Settings) -> None:
        self.reads = RateClass("reads", settings.reads_per_minute)
        self.writes = RateClass("writes", settings.writes_per_minute)
        self.admins = RateClass("admins", settings.admins_per_minute)
        """Whatever an admin does, token exchanges too: imports and replays are quick, and a stolen token is bounded."""
        auth = RateClass(self.AUTH_CLASS, settings.auth_per_minute, is_by_address=True)
        self._by_post_template = {
            **dict.fromkeys(self.AUTH_PATHS, auth),
            self.REGISTRATION_PATH: RateClass("registration", settings.registration_per_minute, is_by_address=True),
            self.ORDERS_PATH: RateClass("orders", settings.orders_per_minute),
            self.GRAPH_PATH: self.reads,
        }

    def choose_class(self, method: str, template: str) -> RateClass:
        if method in READ_METHODS:
            return self.reads
        return self._by_post_template.get(template, self.writes) if method == "POST" else self.writes


@dataclass(slots=True)
class TokenLease:
    """Tokens that this replica holds for one user and class. `elsewhere` is what Redis still had when they were
    taken.
    """

    tokens_left: int = 0
    shared_remaining: int = 0
    expires_at: float = 0.0
    refused_until: float = 0.0
    wait_seconds: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def build_header(self, rate_class: RateClass) -> bytes:
        return b'"%b";r=%d' % (rate_class.name.encode(), self.tokens_left + self.shared_remaining)


class RateLimiter:
    def __init__(self, redis: Redis, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="limits",
            connection_pool=redis.connection_pool,  # type: ignore[arg-type]  # its annotation knows plain values only
        )
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._leases: FifoCache[tuple[str, str], TokenLease] = FifoCache(MAX_LEASES)
        self._unavailable_until = 0.0
        self._is_counting_locally = False

    async def take_token(self, rate_class: RateClass, caller_key: str) -> TokenLease:
        """Spend one token. Raises TooManyRequests."""
        key = (rate_class.name, caller_key)
        lease = self._leases.get(key)
        if lease is None:
            lease = self._leases[key] = TokenLease()
        if not self._spend_token(lease):
            async with lease.lock:  # one chunk at a time, however many requests wait
                if not self._spend_token(lease):
                    await self._refill_lease(lease, rate_class, caller_key)
        return lease

    def _spend_token(self, lease: TokenLease) -> bool:
        if lease.tokens_left > 0 and lease.expires_at > self._now():
            lease.tokens_left -= 1
            return True
        return False

    async def _refill_lease(self, lease: TokenLease, rate_class: RateClass, caller_key: str) -> None:
        now = self._now()
        if now >= lease.refused_until:
            await self._request_chunk(lease, rate_class, caller_key)
        if self._spend_token(lease):
            return
        LIMITED_REQUESTS.labels(rate_class.name).inc()
        wait = max(1, math.ceil(lease.wait_seconds))
        raise TooManyRequests(
            f"at most {rate_class.max_requests} requests of the class {rate_class.name} are taken in "
            f"{rate_class.seconds} s; wait {wait} s",
            retry_after=wait,
            headers={
                "RateLimit-Policy": rate_class.policy_header.decode(),
                "RateLimit": f'"{rate_class.name}";r=0;t={wait}',
            },
        )

    async def _request_chunk(self, lease: TokenLease, rate_class: RateClass, caller_key: str) -> None:
        now = self._now()
        if now >= self._unavailable_until:
            try:
                async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
                    await self._lease_tokens(self._shared, lease, rate_class, caller_key)
                self._set_counting_locally(False)
                return
            except (RedisError, OSError, TimeoutError) as error:
                self._unavailable_until = now + UNAVAILABLE_SECONDS
                self._set_counting_locally(True, repr(error))
        await self._lease_tokens(self._local, lease, rate_class, caller_key)

    def _set_counting_locally(self, is_local: bool, error: str = "") -> None:
        if is_local != self._is_counting_locally:
            self._is_counting_locally = is_local
            COUNTING_LOCALLY.set(int(is_local))
            log.warning(
                "redis is unavailable: this replica counts rate limits by itself"
                if is_local
                else "rate limits are shared again",
                error=error,
            )

    async def _lease_tokens(
        self, limiter: SlidingWindowCounterRateLimiter, lease: TokenLease, rate_class: RateClass, caller_key: str
    ) -> None:
        now = self._now()
        for amount in dict.fromkeys((rate_class.chunk_size, 1)):
            if await limiter.hit(rate_class.limit_item, caller_key, cost=amount):
                lease.tokens_left, lease.expires_at = amount, now + rate_class.seconds
                lease.shared_remaining = (await limiter.get_window_stats(rate_class.limit_item, caller_key)).remaining
                return
        stats = await limiter.get_window_stats(rate_class.limit_item, caller_key)
        lease.tokens_left = 0
        lease.wait_seconds = max(0.0, stats.reset_time - time.time())
        lease.refused_until = now + min(lease.wait_seconds, RECHECK_SECONDS)
