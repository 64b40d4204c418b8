"""The Redis that holds the jobs: one pool of connections, and BullMQ's objects made on it."""

from collections.abc import Awaitable, Iterable
from typing import Any, cast

import orjson
from bullmq import Queue
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from caravan.jobs.declare import Kind

PREFIX = "caravan"
QUEUES = f"{PREFIX}:queues"
"""What each process says of its queues, so that any other, knowing no service, can show them."""
EVENTS_KEPT = 1000
CONNECTIONS = 100
COMMAND_SECONDS = 2.0
BLOCK_SECONDS = 5
"""How long an idle worker's question stays open. Its connection must wait longer than that."""
AWAY = (RedisError, OSError, TimeoutError)


class JobsAway(Exception):
    """The Redis of the jobs can't be used now. What was to be enqueued is in the database: its sweeper will find it."""


class JobStore:
    """Connections and queues of one Redis; opened lazily, so that a Redis that is away stops no start."""

    def __init__(self, url: str) -> None:
        self.pool = self._pool(url, COMMAND_SECONDS)
        self.client = Redis(connection_pool=self.pool)
        self.blocking_pool = self._pool(url, BLOCK_SECONDS + COMMAND_SECONDS + 5)
        self._queues: dict[str, Any] = {}

    @staticmethod
    def _pool(url: str, seconds: float) -> BlockingConnectionPool:
        # BullMQ's own retries wait for minutes while Redis is away; here whoever asks decides.
        return BlockingConnectionPool.from_url(
            url,
            decode_responses=True,
            max_connections=CONNECTIONS,
            timeout=COMMAND_SECONDS,
            socket_timeout=seconds,
            socket_connect_timeout=1,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 1),
            retry_on_error=[RedisConnectionError, RedisTimeoutError],
        )

    def blocking(self) -> Redis:
        """A client whose answers may take as long as an idle worker waits."""
        return Redis(connection_pool=self.blocking_pool)

    def queue(self, name: str) -> Any:
        """BullMQ's queue of this name."""
        if name not in self._queues:
            self._queues[name] = Queue(name, {"connection": self.client, "prefix": PREFIX})
        return self._queues[name]

    async def register(self, kinds: Iterable[Kind]) -> None:
        """Say which queues there are; again now and then, because Redis may forget it."""
        async with self.client.pipeline(transaction=False) as pipe:
            for kind in kinds:
                said = {
                    "attempts": kind.attempts,
                    "concurrency": kind.concurrency,
                    "lease_seconds": kind.lease_seconds,
                    "schedule": str(kind.schedule) if kind.schedule else None,
                }
                pipe.hset(QUEUES, kind.name, orjson.dumps(said).decode())
                meta = self.queue(kind.name).keys["meta"]
                pipe.hset(meta, "opts.maxLenEvents", str(EVENTS_KEPT))
                if kind.everywhere is None:
                    pipe.hdel(meta, "concurrency")
                else:
                    pipe.hset(meta, "concurrency", str(kind.everywhere))
            await pipe.execute()

    async def queues(self) -> dict[str, dict[str, Any]]:
        """What is known of each queue, by name."""
        said = await cast(Awaitable[dict[str, str]], self.client.hgetall(QUEUES))
        return {name: orjson.loads(said[name]) for name in sorted(said)}

    async def schedule(self, name: str) -> dict[str, Any] | None:
        """What BullMQ keeps of a queue's schedule. Its question for a single one fails where there is none."""
        return next((one for one in await self.queue(name).getJobSchedulers() if one["key"] == name), None)

    async def eviction_policy(self) -> str:
        """What this Redis does when its memory is full; anything but `noeviction` loses jobs."""
        info = await self.client.info("memory")
        return str(info.get("maxmemory_policy", "noeviction"))

    async def close(self) -> None:
        await self.pool.disconnect()
        await self.blocking_pool.disconnect()
