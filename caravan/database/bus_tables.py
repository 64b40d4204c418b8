"""The tables of the bus' database: those of the embedded bus (topic logs with a cursor per group, deliveries of queues
and retries, dead letters, bindings), and who serves what where (`caravan/discovery/database.py`).

`caravan/bus/versions` brings a database there. They stand here because discovery, below the bus, has one of them.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Identity, Index

from caravan.database import tables as sql
from caravan.database.kernel_tables import QUEUE_OPTIONS
from caravan.database.tables import DeclaredTable, add_ddl, define_column, define_registry


class BusTable(DeclaredTable, registry=define_registry("bus")):
    pass


class TopicLog(BusTable, table=True):
    __tablename__ = "topic_log"
    __table_args__ = (Index("topic_log_by_topic", "topic", "position"),)

    position: int = define_column(sql.BIGINT, Identity(always=True), primary_key=True)
    topic: str = define_column(sql.TEXT)
    key: str = define_column(sql.TEXT)
    message_id: UUID = define_column(sql.UUID)
    body: bytes = define_column(sql.BYTEA)
    published_at: datetime = define_column(sql.TIMESTAMPTZ, default="now()")


class Cursor(BusTable, table=True):
    __tablename__ = "cursor"
    __table_args__ = ({"postgresql_with": {"fillfactor": "10"}},)

    subscription: str = define_column(sql.TEXT, primary_key=True)
    topic: str = define_column(sql.TEXT)
    position: int = define_column(sql.BIGINT)


class Binding(BusTable, table=True):
    __tablename__ = "binding"

    exchange: str = define_column(sql.TEXT, primary_key=True)
    pattern: str = define_column(sql.TEXT, primary_key=True)
    subscription: str = define_column(sql.TEXT, primary_key=True)


class QueuedDelivery(BusTable, table=True):
    __tablename__ = "delivery"
    __table_args__ = (Index("delivery_by_subscription", "subscription", "id"), {"postgresql_with": QUEUE_OPTIONS})

    id: int = define_column(sql.BIGINT, Identity(always=True), primary_key=True)
    subscription: str = define_column(sql.TEXT)
    channel: str = define_column(sql.TEXT)
    key: str = define_column(sql.TEXT)
    body: bytes = define_column(sql.BYTEA)
    attempt: int = define_column(sql.INTEGER, default="1")
    due_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    published_at: datetime = define_column(sql.TIMESTAMPTZ, default="now()")


class DeadLetter(BusTable, table=True):
    __tablename__ = "dead_letter"

    id: int = define_column(sql.BIGINT, Identity(always=True), primary_key=True)
    subscription: str = define_column(sql.TEXT)
    channel: str = define_column(sql.TEXT)
    key: str = define_column(sql.TEXT)
    body: bytes = define_column(sql.BYTEA)
    attempt: int = define_column(sql.INTEGER)
    reason: str = define_column(sql.TEXT)
    dead_lettered_at: datetime = define_column(sql.TIMESTAMPTZ, name="died_at", default="now()")


class ServiceAddress(BusTable, table=True):
    __tablename__ = "registry"

    service: str = define_column(sql.TEXT, primary_key=True)
    url: str = define_column(sql.TEXT, primary_key=True)
    seen_at: datetime = define_column(sql.TIMESTAMPTZ)


add_ddl(
    BusTable,
    """
CREATE FUNCTION publish(kinds text[], channels text[], routes text[], keys text[], ids uuid[], bodies bytea[])
    RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- One writer of a topic at a time: positions then become visible in their own order,
    -- so that a cursor never steps over a late one.
    PERFORM pg_advisory_xact_lock(66, topic) FROM (
        SELECT DISTINCT hashtext(c) AS topic FROM unnest(kinds, channels) AS m(k, c) WHERE k = 'topic'
            ORDER BY 1
    ) AS locks;
    INSERT INTO topic_log (topic, key, message_id, body)
        SELECT c, key, id, body FROM unnest(kinds, channels, keys, ids, bodies)
            WITH ORDINALITY AS m(k, c, key, id, body, n) WHERE k = 'topic' ORDER BY n;
    INSERT INTO delivery (subscription, channel, key, body)
        SELECT c, c, key, body FROM unnest(kinds, channels, keys, bodies)
            WITH ORDINALITY AS m(k, c, key, body, n) WHERE k = 'queue' ORDER BY n;
    INSERT INTO delivery (subscription, channel, key, body)
        SELECT DISTINCT ON (n, b.subscription) b.subscription, c, key, body
        FROM unnest(kinds, channels, routes, keys, bodies) WITH ORDINALITY AS m(k, c, route, key, body, n)
        JOIN binding b ON b.exchange = c AND route ~ b.pattern
        WHERE k = 'exchange' ORDER BY n, b.subscription;
END $$
""",
)
