"""Sets the gauges of what the backends tell of themselves: sessions in Postgres, connections of the pools, memory of
Redis, and which of them can be used.

Each is asked one cheap question; exporters tell more, where there are any.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import asyncpg
from redis.asyncio import Redis

from caravan.database import CONNECTION_LOST, Database
from caravan.jobs import UNAVAILABLE_ERRORS
from caravan.service import ServiceContext
from caravan.telemetry import metrics

_STATES = ("active", "idle", "idle in transaction")
_ASK_POSTGRES = """
    SELECT count(*) FILTER (WHERE state = 'active') AS "active",
        count(*) FILTER (WHERE state = 'idle') AS "idle",
        count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS "idle in transaction",
        current_setting('max_connections')::int AS most,
        coalesce(max(extract(epoch FROM clock_timestamp() - xact_start))
            FILTER (WHERE backend_xid IS NOT NULL OR backend_xmin IS NOT NULL), 0)::float AS oldest
    FROM pg_stat_activity WHERE usename = current_user"""
"""Of a role's own sessions: of others it sees no state. A transaction without a snapshot holds nothing back."""


@dataclass(frozen=True, slots=True)
class BackendGauges:
    """`databases` by their names, `redis` by what it is for (cache, jobs). `services` are those of the process,
    `owners` says whose a database is that only one of them needs.
    """

    databases: Mapping[str, Database]
    redis: Mapping[str, Redis]
    services: Sequence[str]
    owners: Mapping[str, str]

    @classmethod
    def build(cls, contexts: Collection[ServiceContext[Any, Any]], redis: Mapping[str, Redis]) -> Self:
        databases = {name: database for context in contexts for name, database in context.databases.items()}
        owners = {name: context.service for context in contexts for name in context.databases}
        return cls(databases, redis, [context.service for context in contexts], owners)

    def update_pools(self) -> None:
        for name, database in self.databases.items():
            used, idle, most = database.pool.count_connections()
            metrics.POOL_CONNECTIONS.labels(name, "used").set(used)
            metrics.POOL_CONNECTIONS.labels(name, "idle").set(idle)
            metrics.POOL_LIMIT.labels(name).set(most)

    def update_checks(self, failing: Mapping[str, str], reachable: Mapping[str, bool]) -> None:
        """`failing` as the readiness says; `reachable` are the brokers, where there are any."""
        for name in self.databases:
            self._set_check(name, name not in failing)
        self._set_check("registry", "registry" not in failing)
        for name, is_reachable in reachable.items():
            self._set_check(name, is_reachable)

    async def ask_backends(self) -> None:
        for name, database in self.databases.items():
            await _ask_database(name, database)
        for purpose, redis in self.redis.items():
            check = "redis" if purpose == "cache" else f"{purpose}_redis"
            self._set_check(check, await _ask_redis(purpose, redis))

    def _set_check(self, name: str, is_up: bool) -> None:
        for service in [self.owners[name]] if name in self.owners else self.services:
            metrics.CHECK_UP.labels(service, name).set(is_up)


async def _ask_database(name: str, database: Database) -> None:
    try:
        row = await database.fetchrow(_ASK_POSTGRES)
    except (*CONNECTION_LOST, asyncpg.PostgresError):
        return  # the check of that database says so
    assert row is not None
    for state in _STATES:
        metrics.DATABASE_CONNECTIONS.labels(name, state).set(row[state])
    metrics.DATABASE_CONNECTIONS_LIMIT.labels(name).set(row["most"])
    metrics.DATABASE_OLDEST_TRANSACTION.labels(name).set(row["oldest"])


async def _ask_redis(purpose: str, redis: Redis) -> bool:
    """Whether it answered."""
    try:
        info = await redis.info()
    except UNAVAILABLE_ERRORS:
        return False
    metrics.REDIS_MEMORY.labels(purpose).set(info["used_memory"])
    metrics.REDIS_MEMORY_LIMIT.labels(purpose).set(info.get("maxmemory", 0))
    metrics.REDIS_EVICTED.labels(purpose).set(info.get("evicted_keys", 0))
    return True
