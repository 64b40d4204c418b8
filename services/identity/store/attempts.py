"""Counters of failed tries. After the free ones each try has to wait: 1 s, 2 s, 4 s and so on to 15 minutes; an hour without any forgives."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from caravan.database import Database, UnitOfWork
from services.identity.model import Counter

FORGIVEN_AFTER = timedelta(hours=1)
_OPENS_AT = "CASE WHEN failures >= free THEN last_at + least(900, power(2, least(failures - free, 10))) * interval '1 second' END"
"""When the next try is taken; null is at once, whatever the clocks of several replicas say."""


async def seconds_to_wait(database: Database, counters: Sequence[Counter], now: datetime) -> int:
    """How long until a try is taken that all these counters have to allow; 0 is now."""
    waiting = await database.fetchval(
        f"SELECT ceil(extract(epoch FROM max({_OPENS_AT}) - $3))::int FROM attempt JOIN unnest($1::bytea[], $2::int[]) AS t (key, free) USING (key)"
        " WHERE last_at > $4",
        [counter.key for counter in counters],
        [counter.free for counter in counters],
        now,
        now - FORGIVEN_AFTER,
    )
    return max(0, waiting or 0)


async def take(database: Database, counter: Counter, now: datetime) -> bool:
    """Count a try before its outcome is known, unless it has to wait: of many at the same moment only the free ones get through."""
    row = await database.fetchrow(
        "INSERT INTO attempt AS a (key, failures, last_at) VALUES ($1, 1, $3) ON CONFLICT (key) DO UPDATE"
        " SET failures = CASE WHEN a.last_at < $4 THEN 1 ELSE a.failures + 1 END, last_at = $3"
        f" WHERE a.last_at < $4 OR (SELECT {_OPENS_AT} FROM (SELECT a.failures, a.last_at, $2::int AS free) AS t) > $3 IS NOT TRUE RETURNING failures",
        counter.key,
        counter.free,
        now,
        now - FORGIVEN_AFTER,
    )
    return row is not None


async def count(work: UnitOfWork, counters: Sequence[Counter], now: datetime) -> None:
    """Count a failure, in the order of the keys, so that two of these never wait for each other."""
    await work.execute(
        "INSERT INTO attempt AS a (key, failures, last_at) SELECT key, 1, $2 FROM unnest($1::bytea[]) AS t (key) ORDER BY key ON CONFLICT (key) DO UPDATE"
        " SET failures = CASE WHEN a.last_at < $3 THEN 1 ELSE a.failures + 1 END, last_at = $2",
        [counter.key for counter in counters],
        now,
        now - FORGIVEN_AFTER,
    )


async def forgive(work: UnitOfWork, counters: Sequence[Counter]) -> None:
    await work.execute("DELETE FROM attempt WHERE key = ANY($1)", [counter.key for counter in counters])


async def prune(database: Database, now: datetime) -> None:
    await database.fetch("DELETE FROM attempt WHERE last_at < $1", now - FORGIVEN_AFTER)
