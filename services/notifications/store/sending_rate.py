"""The sending rate of a priority, shared by all replicas: a token bucket in one row.

The row says until when the permitted messages are spent. The time since then, up to `KEPT_SECONDS`, is what may be sent
now. All replicas go by the database's clock, and its row lock has one of them take at a time.
"""

from datetime import timedelta

from sqlalchemy import bindparam, func, update
from sqlalchemy.dialects.postgresql import INTERVAL, insert

from caravan.database import Database
from caravan.database.query import Query
from caravan.database.tables import col
from services.notifications.model import Priority
from services.notifications.tables import SendingRate

KEPT_SECONDS = 1.0
"""A pause of at most this is caught up, so that the gap between two jobs costs nothing; after a longer one there is no
burst.
"""

_INSERT = Query(
    insert(SendingRate)
    .values(priority=bindparam("priority"), spent_until=func.clock_timestamp())
    .on_conflict_do_nothing()
)
_RETURN = Query(
    update(SendingRate)
    .where(col(SendingRate.priority) == bindparam("priority"))
    .values(spent_until=col(SendingRate.spent_until) - bindparam("unused", type_=INTERVAL))
)


async def take_permits(database: Database, priority: Priority, per_second: float, limit: int) -> int:
    """How many messages may be sent now, at most `limit`; they count as sent."""
    permits = await database.fetchval(
        "WITH bucket AS (SELECT greatest(spent_until, clock_timestamp() - make_interval(secs => $2)) AS spent_until,"
        " clock_timestamp() AS now FROM sending_rate WHERE priority = $1 FOR UPDATE),"
        " taken AS (SELECT spent_until, greatest(0, least($4::int,"
        " floor(extract(epoch FROM now - spent_until) * $3)))::int AS permits FROM bucket)"
        " UPDATE sending_rate r SET spent_until = taken.spent_until + make_interval(secs => taken.permits / $3)"
        " FROM taken WHERE r.priority = $1 RETURNING taken.permits",
        priority,
        KEPT_SECONDS,
        per_second,
        limit,
    )
    if permits is None:
        await _INSERT.execute(database, priority=priority)
    return permits or 0


async def return_permits(database: Database, priority: Priority, per_second: float, permits: int) -> None:
    """Give back what was not needed: fewer messages were due."""
    await _RETURN.execute(database, priority=priority, unused=timedelta(seconds=permits / per_second))
