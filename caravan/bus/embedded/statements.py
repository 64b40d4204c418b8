"""The plain statements of the embedded bus, which `bus.py` runs, and those of `reader.py` for what failed. The readers'
others, which each message costs, are text there.
"""

from typing import Any, NamedTuple

from sqlalchemy import all_, bindparam, cast, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert

from caravan import bus
from caravan.database import tables as sql
from caravan.database.bus_tables import Binding, Cursor, DeadLetter, QueuedDelivery, TopicLog
from caravan.database.conditions import is_among
from caravan.database.query import Query
from caravan.database.tables import col


class PublishedMessage(NamedTuple):
    position: int
    topic: str
    key: str
    body: bytes


_SUBSCRIPTION, _TOPIC = bindparam("subscription", type_=sql.TEXT), bindparam("topic", type_=sql.TEXT)
_LAST_OLD_POSITION = (
    select(col(TopicLog.position))
    .where(col(TopicLog.topic) == _TOPIC, col(TopicLog.published_at) < bindparam("before"))
    .order_by(col(TopicLog.position).desc())
    .limit(1)
    .scalar_subquery()
)
INSERT_CURSOR = Query(
    insert(Cursor)
    .from_select(
        ["subscription", "topic", "position"],
        select(_SUBSCRIPTION, _TOPIC, func.coalesce(_LAST_OLD_POSITION, 0)).where(
            ~exists().where(col(Cursor.subscription) == _SUBSCRIPTION)
        ),
    )
    .on_conflict_do_nothing()
)
"""A new reader begins after the last message that is older than that."""
DELETE_OTHER_BINDINGS = Query(
    delete(Binding).where(
        col(Binding.exchange) == bindparam("exchange"),
        col(Binding.subscription) == bindparam("subscription"),
        col(Binding.pattern) != all_(bindparam("patterns", type_=sql.ARRAY(sql.TEXT))),
    )
)
_DEAD_LETTERS = (
    select(
        cast(col(DeadLetter.id), sql.TEXT),
        col(DeadLetter.subscription),
        col(DeadLetter.channel),
        col(DeadLetter.key),
        func.substr(col(DeadLetter.body), 1, bindparam("preview", type_=sql.INTEGER)),
        col(DeadLetter.reason),
        col(DeadLetter.attempt),
        col(DeadLetter.dead_lettered_at),
        func.length(col(DeadLetter.body)),
    )
    .where(is_among(col(DeadLetter.subscription), "subscriptions"))
    .order_by(col(DeadLetter.id))
    .limit(bindparam("limit"))
)
LIST_DEAD_LETTERS = Query(_DEAD_LETTERS, bus.DeadLetter)
LIST_DEAD_LETTERS_OF_KEY = Query(
    _DEAD_LETTERS.where(col(DeadLetter.key) == bindparam("key", type_=sql.TEXT)), bus.DeadLetter
)
DISCARD = Query(delete(DeadLetter).where(is_among(col(DeadLetter.id), "ids")))
GET_END = Query(select(func.coalesce(func.max(col(TopicLog.position)), 0)), int)
LIST_NEWEST = Query(
    select(col(TopicLog.position), col(TopicLog.topic), col(TopicLog.key), col(TopicLog.body))
    .where(col(TopicLog.position) > bindparam("position"))
    .order_by(col(TopicLog.position).desc())
    .limit(bindparam("limit")),
    PublishedMessage,
)
PRUNE = """
    WITH oldest AS (
        SELECT position, published_at FROM topic_log
        WHERE topic = $1 AND position <= coalesce((SELECT min(position) FROM cursor WHERE topic = $1), 0)
        ORDER BY position LIMIT $3
    )
    DELETE FROM topic_log WHERE position = ANY(ARRAY(SELECT position FROM oldest WHERE published_at < $2))
"""
"""Only the oldest are looked at, as positions rise with the time: what is still kept is not read again each minute."""


def _build_row(id: int, key: str, body: bytes, attempt: int) -> dict[str, Any]:
    """As a row of the readers' texts is read."""
    return {"id": id, "key": key, "body": body, "attempt": attempt}


LIST_WAITING = Query(
    select(col(QueuedDelivery.id), col(QueuedDelivery.key), col(QueuedDelivery.body), col(QueuedDelivery.attempt))
    .where(
        col(QueuedDelivery.subscription) == bindparam("subscription"),
        is_among(col(QueuedDelivery.key), "keys"),
    )
    .order_by(col(QueuedDelivery.id))
    .limit(bindparam("limit")),
    _build_row,
)
DELETE_DELIVERIES = Query(delete(QueuedDelivery).where(is_among(col(QueuedDelivery.id), "ids")))
POSTPONE_DELIVERY = Query(
    update(QueuedDelivery)
    .where(col(QueuedDelivery.id) == bindparam("id"))
    .values(attempt=col(QueuedDelivery.attempt) + 1, due_at=bindparam("due_at"))
)
INSERT_DELIVERY = Query(
    insert(QueuedDelivery)
    .values({name: bindparam(name) for name in ("subscription", "channel", "key", "body", "attempt", "due_at")})
    .inline()
)
INSERT_DEAD_LETTER = Query(
    insert(DeadLetter)
    .values({name: bindparam(name) for name in ("subscription", "channel", "key", "body", "attempt", "reason")})
    .inline()
)
