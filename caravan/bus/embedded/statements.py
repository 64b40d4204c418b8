"""The plain statements of the embedded bus, which `bus.py` runs. Those of the readers, which each message costs, are
text in `reader.py`.
"""

from typing import NamedTuple

from sqlalchemy import all_, any_, bindparam, cast, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from caravan import bus
from caravan.database import tables as sql
from caravan.database.bus_tables import Binding, Cursor, DeadLetter, TopicLog
from caravan.database.query import Query
from caravan.database.tables import col


class PublishedMessage(NamedTuple):
    position: int
    topic: str
    key: str
    body: bytes


_SUBSCRIPTIONS = bindparam("subscriptions", type_=sql.ARRAY(sql.TEXT))
INSERT_CURSOR = Query(
    insert(Cursor)
    .values(subscription=bindparam("subscription"), topic=bindparam("topic"), position=0)
    .on_conflict_do_nothing()
)
DELETE_OTHER_BINDINGS = Query(
    delete(Binding).where(
        col(Binding.exchange) == bindparam("exchange"),
        col(Binding.subscription) == bindparam("subscription"),
        col(Binding.pattern) != all_(bindparam("patterns", type_=sql.ARRAY(sql.TEXT))),
    )
)
LIST_DEAD_LETTERS = Query(
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
    .where(col(DeadLetter.subscription) == any_(_SUBSCRIPTIONS))
    .order_by(col(DeadLetter.id))
    .limit(bindparam("limit")),
    bus.DeadLetter,
)
DISCARD = Query(delete(DeadLetter).where(col(DeadLetter.id) == any_(bindparam("ids", type_=sql.ARRAY(sql.BIGINT)))))
GET_END = Query(select(func.coalesce(func.max(col(TopicLog.position)), 0)), int)
LIST_NEWEST = Query(
    select(col(TopicLog.position), col(TopicLog.topic), col(TopicLog.key), col(TopicLog.body))
    .where(col(TopicLog.position) > bindparam("position"))
    .order_by(col(TopicLog.position).desc())
    .limit(bindparam("limit")),
    PublishedMessage,
)
_OF_TOPIC = bindparam("topic", type_=sql.TEXT)
PRUNE = Query(
    delete(TopicLog).where(
        col(TopicLog.position).in_(
            select(col(TopicLog.position))
            .where(col(TopicLog.topic) == _OF_TOPIC, col(TopicLog.published_at) < bindparam("before"))
            .where(
                col(TopicLog.position)
                <= func.coalesce(
                    select(func.min(col(Cursor.position))).where(col(Cursor.topic) == _OF_TOPIC).scalar_subquery(), 0
                )
            )
            .order_by(col(TopicLog.position))
            .limit(bindparam("limit"))
        )
    )
)
