"""The Redis that holds the jobs: one pool of connections, and BullMQ's objects made on it."""

import re
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

from caravan.embedded.valkey_binary import OLDEST_VERSION
from caravan.jobs.declarations import JobType
from caravan.redis_pools import create_pool

PREFIX = "caravan"
_QUEUES_KEY = f"{PREFIX}:queues"
"""What each process says of its queues, so that any other, knowing no service, can show them."""
_EVENTS_MAX = 1000
_CONNECTIONS = 100
_COMMAND_SECONDS = 2.0
BLOCK_SECONDS = 5
"""How long an idle worker's question stays open. Its connection must wait longer than that."""
UNAVAILABLE_ERRORS = (RedisError, OSError, TimeoutError)


class JobsUnavailable(Exception):
    """The Redis of the jobs can't be used now. What was to be enqueued is in the database: its sweeper will find it."""


class ServerTooOld(Exception):
    """The Redis of the jobs lacks what they need; the text says what to do."""


class JobStore:
    """Connections and queues of one Redis; opened lazily, so that a process starts without Redis."""

    def __init__(self, url: str) -> None:
        self.pool = self._create_pool(url, _COMMAND_SECONDS)
        self.client = Redis(connection_pool=self.pool)
        self.blocking_pool = self._create_pool(url, BLOCK_SECONDS + _COMMAND_SECONDS + 5)
        self._queues: dict[str, Any] = {}

    @staticmethod
    def _create_pool(url: str, seconds: float) -> BlockingConnectionPool:
        # BullMQ's own retries wait for minutes while Redis is unavailable; here the caller decides.
        return create_pool(
            BlockingConnectionPool,
            url,
            decode_responses=True,
            max_connections=_CONNECTIONS,
            timeout=_COMMAND_SECONDS,
            socket_timeout=seconds,
            socket_connect_timeout=1,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 1),
            retry_on_error=[RedisConnectionError, RedisTimeoutError],
        )

    def create_blocking_client(self) -> Redis:
        """A client whose answers may take as long as an idle worker waits."""
        return Redis(connection_pool=self.blocking_pool)

    def get_queue(self, name: str) -> Any:
        """BullMQ's queue of this name."""
        if name not in self._queues:
            self._queues[name] = Queue(name, {"connection": self.client, "prefix": PREFIX})
        return self._queues[name]

    async def register_queues(self, job_types: Iterable[JobType]) -> None:
        """Say which queues there are; again now and then, because Redis may forget it."""
        async with self.client.pipeline(transaction=False) as pipe:
            for job_type in job_types:
                settings = {
                    "attempts": job_type.attempts,
                    "concurrency": job_type.concurrency,
                    "lease_seconds": job_type.lease_seconds,
                    "schedule": str(job_type.schedule) if job_type.schedule else None,
                }
                pipe.hset(_QUEUES_KEY, job_type.name, orjson.dumps(settings).decode())
                meta = self.get_queue(job_type.name).keys["meta"]
                pipe.hset(meta, "opts.maxLenEvents", str(_EVENTS_MAX))
                if job_type.global_concurrency is None:
                    pipe.hdel(meta, "concurrency")
                else:
                    pipe.hset(meta, "concurrency", str(job_type.global_concurrency))
            await pipe.execute()

    async def fetch_queues(self) -> dict[str, dict[str, Any]]:
        """What is known of each queue, by name."""
        entries = await cast(Awaitable[dict[str, str]], self.client.hgetall(_QUEUES_KEY))
        return {name: orjson.loads(entries[name]) for name in sorted(entries)}

    async def fetch_schedule(self, name: str) -> dict[str, Any] | None:
        """What BullMQ keeps of a queue's schedule. Its question for a single one fails where there is none."""
        return next((one for one in await self.get_queue(name).getJobSchedulers() if one["key"] == name), None)

    async def check_server(self) -> str | None:
        """What is to be changed about this Redis, if it only serves less well: one that evicts loses jobs. Raises
        ServerTooOld.
        """
        info = await self.client.info()
        given = re.match(r"(\d+)\.(\d+)\.(\d+)", str(info.get("redis_version")))  # of a Valkey: whom it answers like
        if given and tuple(map(int, given.groups())) < OLDEST_VERSION:
            raise ServerTooOld(
                f"the Redis of the jobs is {given[0]}; they need a Valkey, or a Redis >= "
                f"{'.'.join(map(str, OLDEST_VERSION))}: upgrade it, or name another one in CARAVAN_JOBS_REDIS_URL"
            )
        policy = str(info.get("maxmemory_policy", "noeviction"))
        if policy == "noeviction":
            return None
        return (
            f"the Redis of the jobs evicts ({policy}): set maxmemory-policy noeviction, or name another one in "
            "CARAVAN_JOBS_REDIS_URL"
        )

    async def close(self) -> None:
        await self.pool.disconnect()
        await self.blocking_pool.disconnect()
