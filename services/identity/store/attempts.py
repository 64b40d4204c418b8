"""Counters of failed login attempts. They leak: free attempts come back within an hour. Beyond the free ones, each
attempt waits 1 s, 2 s, 4 s and so on, up to a maximum.

A counter stops rising a little above its free attempts, so that after half an hour without attempts there is no delay,
however long somebody has failed.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import bindparam, case, delete, func, select, update

from caravan.database import Database, UnitOfWork
from caravan.database.conditions import is_among
from caravan.database.query import Query
from caravan.database.tables import col
from services.identity.model import AttemptCounter
from services.identity.tables import Attempt

EMPTY_AFTER = timedelta(hours=12)
"""By then every counter has leaked to nothing."""
ABOVE_FREE = 5
"""How far a counter rises above its free attempts: the delay doubles as often."""
_LEVEL = (
    "greatest(0, a.level - a.free * extract(epoch FROM greatest($3::timestamptz - a.last_at, interval '0')) / 3600)"
)
_OPENS_AT = (
    "CASE WHEN a.level > a.free - 1 THEN a.last_at + least($4, power(2,"
    " ceil(a.level - a.free))) * interval '1 second' END"
)
"""When the next try is taken; null is at once, whatever the clocks of several replicas say."""
_LOCKED_KEYS = (
    select(col(Attempt.key)).where(is_among(col(Attempt.key), "keys")).order_by(col(Attempt.key)).with_for_update()
)
_FORGIVE = Query(
    update(Attempt)
    .where(col(Attempt.key).in_(_LOCKED_KEYS))
    .values(
        level=case((col(Attempt.key) == bindparam("narrow_key"), 0), else_=func.greatest(0, col(Attempt.level) - 1))
    )
)
_PURGE_EXPIRED = Query(delete(Attempt).where(col(Attempt.last_at) < bindparam("before")))


async def count_attempt(
    database: Database,
    counters: Sequence[AttemptCounter],
    now: datetime,
    max_delay_seconds: int,
    lenient: AttemptCounter | None = None,
) -> int:
    """Count an attempt before its outcome is known: 0 when all these counters allow it, else how many seconds it has to
    wait, and nothing is counted.

    The first counter is the narrowest. Of many attempts at the same moment only its free ones pass. `lenient` delays
    only known clients: a first attempt is accepted whatever others have done.
    """
    row = await database.fetchrow(
        "WITH counters AS (SELECT * FROM unnest($1::bytea[], $2::int[]) AS g (key, free)),"
        f" locked AS (SELECT a.key, {_OPENS_AT} AS opens_at FROM attempt a JOIN counters USING (key)"
        " ORDER BY a.key FOR UPDATE OF a),"
        " waiting AS (SELECT coalesce(ceil(extract(epoch FROM max(opens_at) - $3)), 0)::int AS seconds FROM locked"
        " WHERE key IS DISTINCT FROM $5 OR EXISTS (SELECT FROM locked WHERE key = $6)),"
        " counted AS (INSERT INTO attempt AS a (key, free, level, last_at) SELECT key, free, 1, $3"
        " FROM counters, waiting WHERE seconds <= 0 ORDER BY key"
        " ON CONFLICT (key) DO UPDATE SET free = excluded.free,"
        f" level = least(excluded.free + {ABOVE_FREE}, {_LEVEL} + 1), last_at = greatest(a.last_at, $3)"
        f" WHERE a.key <> $6 OR {_OPENS_AT} > $3 IS NOT TRUE RETURNING key)"
        " SELECT seconds, EXISTS (SELECT FROM counted WHERE key = $6) AS is_counted FROM waiting",
        [counter.key for counter in counters],
        [counter.free_attempts for counter in counters],
        now,
        float(max_delay_seconds),
        lenient.key if lenient else None,
        counters[0].key,
    )
    assert row is not None
    return 0 if row["is_counted"] else max(1, row["seconds"])


async def forgive_attempt(
    uow: UnitOfWork, narrow_counter: AttemptCounter | None, wider_counters: Sequence[AttemptCounter] = ()
) -> None:
    """The try did not fail: the narrow counter begins anew, the wider ones count it no more. Locked in the order of the
    keys, as `take` does.
    """
    await _FORGIVE.execute(
        uow,
        keys=[counter.key for counter in (*([narrow_counter] if narrow_counter else []), *wider_counters)],
        narrow_key=narrow_counter.key if narrow_counter else None,
    )


async def purge_expired(database: Database, now: datetime) -> None:
    await _PURGE_EXPIRED.execute(database, before=now - EMPTY_AFTER)
