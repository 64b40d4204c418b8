"""Rate limits per user and route class, counted in Redis for all replicas.

Most requests cost no round trip: a replica takes tokens from Redis in chunks of a hundredth of the limit and spends them itself. In any minute a user may get
at most the limit and, for each replica, what was left of the chunk it had taken before: less than one chunk. Unspent tokens end with their minute.

While Redis is away nothing is refused for that reason: every replica counts by itself, from zero, so that N replicas let through up to N times each limit.
Guessing passwords stays bounded, and identity has counters of its own.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from caravan.errors import TooManyRequests
from caravan.telemetry import log
from services.gateway.settings import Settings

LIMITED = Counter("caravan_gateway_limited_total", "Requests refused by a rate limit", ["limit"])
ALONE = Gauge("caravan_gateway_limits_alone", "1 while this replica counts by itself because Redis is away")

WINDOW_SECONDS = 60
CHUNKS = 100
MOST = 50_000
STORE_SECONDS = 0.25
AWAY_SECONDS = 1.0
RECHECK_SECONDS = 1.0
"""A refusal is repeated without asking Redis for at most this long."""

READS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Policy:
    """A route class: at most `most` requests in `seconds`. `by_address`: whoever has not shown a password yet is known by the address only."""

    name: str
    most: int
    by_address: bool = False
    seconds: int = WINDOW_SECONDS
    item: RateLimitItemPerSecond = field(init=False)
    chunk: int = field(init=False)
    header: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "item", RateLimitItemPerSecond(self.most, self.seconds, namespace=self.name))
        object.__setattr__(self, "chunk", max(1, self.most // CHUNKS))
        object.__setattr__(self, "header", f'"{self.name}";q={self.most};w={self.seconds}'.encode())


class Policies:
    """The class of a route. The templates named here are those that need a class of their own; a test finds each in the merged OpenAPI document."""

    AUTH = (
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
    REGISTRATION = "/v1/users"
    ORDERS = "/v1/orders"

    def __init__(self, settings: Settings) -> None:
        self.reads = Policy("reads", settings.reads_per_minute)
        self.writes = Policy("writes", settings.writes_per_minute)
        self.admins = Policy("admins", settings.admins_per_minute)
        """Whatever an admin does, token exchanges too: imports and replays are quick, and a stolen token is bounded."""
        auth = Policy(self.AUTH_CLASS, settings.auth_per_minute, by_address=True)
        self._posts = {
            **dict.fromkeys(self.AUTH, auth),
            self.REGISTRATION: Policy("registration", settings.registration_per_minute, by_address=True),
            self.ORDERS: Policy("orders", settings.orders_per_minute),
        }

    def of(self, method: str, template: str) -> Policy:
        if method in READS:
            return self.reads
        return self._posts.get(template, self.writes) if method == "POST" else self.writes


@dataclass(slots=True)
class Lease:
    """Tokens that this replica holds for one user and class. `elsewhere` is what Redis still had when they were taken."""

    left: int = 0
    elsewhere: int = 0
    until: float = 0.0
    refused_until: float = 0.0
    wait: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def header(self, policy: Policy) -> bytes:
        return b'"%b";r=%d' % (policy.name.encode(), self.left + self.elsewhere)


class Limits:
    def __init__(self, redis: Redis, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        storage = RedisStorage("async+redis://", implementation="redispy", key_prefix="limits", connection_pool=redis.connection_pool)  # type: ignore[arg-type]  # its annotation knows plain values only
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._leases: OrderedDict[tuple[str, str], Lease] = OrderedDict()
        self._away_until = 0.0
        self._alone = False

    async def take(self, policy: Policy, who: str) -> Lease:
        """Spend one token. Raises TooManyRequests."""
        key = (policy.name, who)
        lease = self._leases.get(key)
        if lease is None:
            lease = self._leases[key] = Lease()
            if len(self._leases) > MOST:
                self._leases.popitem(last=False)
        if not self._spend(lease):
            async with lease.asking:  # one chunk at a time, however many requests wait
                if not self._spend(lease):
                    await self._refill(lease, policy, who)
        return lease

    def _spend(self, lease: Lease) -> bool:
        if lease.left > 0 and lease.until > self._now():
            lease.left -= 1
            return True
        return False

    async def _refill(self, lease: Lease, policy: Policy, who: str) -> None:
        now = self._now()
        if now >= lease.refused_until:
            await self._ask(lease, policy, who)
        if self._spend(lease):
            return
        LIMITED.labels(policy.name).inc()
        wait = max(1, math.ceil(lease.wait))
        raise TooManyRequests(
            f"at most {policy.most} requests of the class {policy.name} are taken in {policy.seconds} s; wait {wait} s",
            retry_after=wait,
            headers={"RateLimit-Policy": policy.header.decode(), "RateLimit": f'"{policy.name}";r=0;t={wait}'},
        )

    async def _ask(self, lease: Lease, policy: Policy, who: str) -> None:
        now = self._now()
        if now >= self._away_until:
            try:
                async with asyncio.timeout(STORE_SECONDS):
                    await self._lease(self._shared, lease, policy, who)
                self._counts_alone(False)
                return
            except (RedisError, OSError, TimeoutError) as error:
                self._away_until = now + AWAY_SECONDS
                self._counts_alone(True, repr(error))
        await self._lease(self._own, lease, policy, who)

    def _counts_alone(self, alone: bool, error: str = "") -> None:
        if alone != self._alone:
            self._alone = alone
            ALONE.set(int(alone))
            log.warning(
                "redis is away: this replica counts rate limits by itself" if alone else "rate limits are shared again", error=error
            )

    async def _lease(self, limiter: SlidingWindowCounterRateLimiter, lease: Lease, policy: Policy, who: str) -> None:
        now = self._now()
        for amount in dict.fromkeys((policy.chunk, 1)):
            if await limiter.hit(policy.item, who, cost=amount):
                lease.left, lease.until = amount, now + policy.seconds
                lease.elsewhere = (await limiter.get_window_stats(policy.item, who)).remaining
                return
        stats = await limiter.get_window_stats(policy.item, who)
        lease.left = 0
        lease.wait = max(0.0, stats.reset_time - time.time())
        lease.refused_until = now + min(lease.wait, RECHECK_SECONDS)
