"""The event store: append-only streams with contiguous versions, loaded, folded and upcast.

Appending happens in the unit of work (`UnitOfWork.append`), so that events, outbox rows and the idempotency record
commit together. A service that stores events runs `TABLES` in its first migration.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import asyncpg
import orjson

from caravan.fifo_cache import FifoCache
from caravan.messages import Event

APPEND_ONLY_DDL = (
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'events are append-only: % on % refused', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END $$
    """,
    "CREATE TRIGGER event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event FOR EACH STATEMENT EXECUTE "
    "FUNCTION refuse_change()",
)
TABLES = (
    """
    CREATE TABLE event (
        stream uuid NOT NULL,
        version int NOT NULL CHECK (version > 0),
        type text NOT NULL,
        data_version int NOT NULL,
        data json NOT NULL,
        time timestamptz NOT NULL,
        actor text,
        trace_id text,
        transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
        position bigint GENERATED ALWAYS AS IDENTITY,
        PRIMARY KEY (stream, version)
    )
    """,
    "CREATE INDEX event_log ON event (transaction, position)",
    *APPEND_ONLY_DDL,
)

_RECENT_EVENTS = 5_000
HOT = ("load_streams",)
"""Every order runs it, so that it stays text."""

Upcast = Callable[[dict[str, Any]], dict[str, Any]]


class QueryExecutor(Protocol):
    """A Database or a UnitOfWork."""

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]: ...


class RecordedEvent(NamedTuple):
    """One stored event. `feed_position` orders all events of the store: (transaction, position)."""

    stream: UUID
    version: int
    event: Event
    time: datetime
    actor: str | None
    trace_id: str | None
    feed_position: tuple[int, int]


class EventStore:
    """Reads the streams of one service. `upcasts[(type, n)]` turns the data of version n into version n + 1."""

    def __init__(self, events: Iterable[type[Event]], upcasts: Mapping[tuple[str, int], Upcast] | None = None) -> None:
        self.event_types = {event.type: event for event in events}
        self._upcasts = dict(upcasts or {})
        self._recent: FifoCache[tuple[UUID, int], Event] = FifoCache(_RECENT_EVENTS)

    def decode_event(self, name: str, version: int, data: dict[str, Any]) -> Event:
        """Today's event from stored data of any earlier version. KeyError for a type or a step that nobody knows."""
        event_type = self.event_types[name]
        while version < event_type.version:
            data = self._upcasts[(name, version)](data)
            version += 1
        return event_type.model_validate(data)

    def _build_recorded(self, row: asyncpg.Record) -> RecordedEvent:
        # Stored events never change, and a stream under way is loaded again and again: what was read lately needn't be
        # validated again.
        key = (row["stream"], row["version"])
        event = self._recent.get(key)
        if event is None:
            event = self._recent[key] = self.decode_event(row["type"], row["data_version"], orjson.loads(row["data"]))
        return RecordedEvent(
            stream=row["stream"],
            version=row["version"],
            event=event,
            time=row["time"],
            actor=row["actor"],
            trace_id=row["trace_id"],
            feed_position=(int(row["transaction"]), row["position"]),
        )

    async def load_streams(
        self,
        executor: QueryExecutor,
        streams: Sequence[UUID],
        *,
        until: datetime | None = None,
        version: int | None = None,
    ) -> dict[UUID, list[RecordedEvent]]:
        """The events of several streams in order, optionally only up to a time or a version; a stream without events is
        absent.
        """
        rows = await executor.fetch(
            "SELECT stream, version, type, data_version, data, time, actor, trace_id, transaction::text, position "
            "FROM event"
            " WHERE stream = ANY($1) AND ($2::timestamptz IS NULL OR time <= $2) AND ($3::int IS NULL OR version <= "
            "$3) ORDER BY stream, version",
            list(streams),
            until,
            version,
        )
        events_by_stream: dict[UUID, list[RecordedEvent]] = {}
        for row in rows:
            events_by_stream.setdefault(row["stream"], []).append(self._build_recorded(row))
        return events_by_stream

    async def read_feed(
        self, executor: QueryExecutor, feed_position: tuple[int, int], limit: int
    ) -> list[RecordedEvent]:
        """The next events of the whole store in commit-safe order.

        A sequence's order isn't the order of commits: a reader that remembers only the highest number skips what
        commits late. So events are ordered by transaction first, and only those older than every transaction still
        running are handed out.
        """
        rows = await executor.fetch(
            "SELECT stream, version, type, data_version, data, time, actor, trace_id, transaction::text, position "
            "FROM event"
            " WHERE (transaction, position) > ($1::text::xid8, $2) AND transaction < "
            "pg_snapshot_xmin(pg_current_snapshot())"
            # not the column of the result: that is text, and sorts 1000 before 998
            " ORDER BY event.transaction, event.position LIMIT $3",
            str(feed_position[0]),
            feed_position[1],
            limit,
        )
        return [self._build_recorded(row) for row in rows]
