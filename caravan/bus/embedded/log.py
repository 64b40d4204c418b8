"""Reads topics of the embedded bus from their first message on, for whoever rebuilds a read model of them."""

from collections.abc import Sequence

from sqlalchemy import bindparam, select

from caravan.bus import LoggedMessage
from caravan.database import Database
from caravan.database.bus_tables import TopicLog
from caravan.database.query import Query
from caravan.database.tables import col

_READ = Query(
    select(col(TopicLog.position), col(TopicLog.body))
    .where(col(TopicLog.topic) == bindparam("topic"), col(TopicLog.position) > bindparam("position"))
    .order_by(col(TopicLog.position))
    .limit(bindparam("limit")),
    lambda position, body: (position, body),
)


class EmbeddedTopicLog:
    """A position for each topic: those of one topic become visible in their order, those of several do not."""

    def __init__(self, database: Database, topics: Sequence[str]) -> None:
        self._database = database
        self._positions = dict.fromkeys(topics, 0)

    async def read_messages(self, limit: int) -> list[LoggedMessage]:
        messages: list[LoggedMessage] = []
        for topic, position in self._positions.items():
            rows = await _READ.fetch_all(
                self._database, topic=topic, position=position, limit=max(1, limit // len(self._positions))
            )
            if rows:
                self._positions[topic] = rows[-1][0]
            messages += [LoggedMessage(topic, body) for _, body in rows]
        return messages
