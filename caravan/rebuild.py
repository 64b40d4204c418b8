"""Builds a read model anew from a log of topics while its service runs, compares it with the live one, and puts right
what differs.

The rows are made in a schema of their own beside the live one, by the code that makes the live ones. Only what the
service has handled counts, which its inbox says; so the two can be compared at one moment, while writers of the live
tables wait.
`caravan projections rebuild` runs it; a service declares its read models (`Service.projections`).
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, bindparam, cast, delete, func, literal, literal_column, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from caravan.bus import NEW_READER_AGE, LoggedMessage, Subscription, TopicLog
from caravan.clock import get_creation_time, new_id
from caravan.database import Database, UnitOfWork
from caravan.database import tables as sql
from caravan.database.conditions import is_among
from caravan.database.kernel_tables import Inbox
from caravan.database.query import Query
from caravan.database.tables import col
from caravan.messages import Delivery, MalformedMessage, Topic, decode_message
from caravan.service import ReadModel, RebuildResult

_BATCH_SIZE = 500
_CATCH_UP_SECONDS = 60.0
"""So long may reading the last messages take while the writers of the live tables wait."""

_FIND_HANDLED = Query(
    select(col(Inbox.message_id)).where(
        col(Inbox.consumer) == bindparam("consumer"),
        is_among(col(Inbox.message_id), "ids"),
    ),
    UUID,
)


_ABANDONED_AFTER = timedelta(days=1)
"""A rebuild that was killed leaves its schema behind; the next one drops those that began longer ago than this."""

# Statements over a table that every service has and a schema that no rebuild has; `_name_table` and `_name_schema`
# make them those of others.
_FIND_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^rebuild_[0-9a-f]{32}$'"
_DROP_SCHEMA = "DROP SCHEMA IF EXISTS rebuild CASCADE"
_CREATE_SCHEMA = "CREATE SCHEMA rebuild"
_CREATE_TABLE = "CREATE TABLE rebuild.inbox (LIKE public.inbox INCLUDING ALL)"
# Fails where the schema is gone: a search path alone would go on to the live tables.
_SEE_REBUILT = "SELECT set_config('search_path', $1::regnamespace::text || ', public', true)"
_SEE_LIVE = "SET LOCAL search_path TO public"
_LOCK = "LOCK TABLE public.inbox IN SHARE ROW EXCLUSIVE MODE"
_REPLACE = "INSERT INTO public.inbox SELECT * FROM inbox"
_DELETE_ALL = Query(delete(Inbox))
_ROW_HASH = func.md5(cast(literal_column("inbox"), sql.TEXT))
_DIGEST = Query(
    select(
        func.count(),
        func.coalesce(func.md5(func.string_agg(_ROW_HASH, aggregate_order_by(literal(""), _ROW_HASH))), ""),
    )
    .select_from(Inbox)
    .where(literal_column("NOT (false)", Boolean))
)


def _name_table(text: str, table: str) -> str:
    return text.replace("inbox", table)


def _name_schema(text: str, schema: str) -> str:
    return text.replace("rebuild", schema)


class LogTooShort(Exception):
    """The live tables have rows that the topics know nothing of: they were made before the topics were kept."""


class LogUnreadable(Exception):
    """The end of the topics was not reached while the writers of the live tables waited."""


@dataclass(slots=True)
class TopicRebuild:
    """One rebuild of a read model. Raises LogTooShort instead of replacing rows by fewer, and LogUnreadable."""

    model: ReadModel
    database: Database
    log: TopicLog
    progress: Callable[[int], None]
    events: int = 0
    _schema: str = field(default_factory=lambda: f"rebuild_{new_id().hex}")
    _unhandled: list[LoggedMessage] = field(default_factory=list)
    """Read, and not handled by the service so far."""

    async def run(self) -> RebuildResult:
        await self._drop_abandoned()
        async with self.database.unit_of_work() as uow:
            await uow.execute(_name_schema(_CREATE_SCHEMA, self._schema))
            for table in self.model.tables:
                await uow.execute(_name_table(_name_schema(_CREATE_TABLE, self._schema), table))
        try:
            while messages := await self.log.read_messages(_BATCH_SIZE):
                async with self.database.unit_of_work() as uow:
                    await self._apply_messages(uow, messages)
                self.progress(self.events)
            return await self._compare_and_replace()
        finally:
            await self.database.execute(_name_schema(_DROP_SCHEMA, self._schema))

    async def _drop_abandoned(self) -> None:
        last_start = self.database.clock() - _ABANDONED_AFTER
        for (schema,) in await self.database.fetch(_FIND_SCHEMAS):
            began_at = get_creation_time(UUID(schema.removeprefix("rebuild_")))
            if began_at and began_at < last_start:
                await self.database.execute(_name_schema(_DROP_SCHEMA, schema))

    async def _apply_messages(self, uow: UnitOfWork, messages: Sequence[LoggedMessage]) -> None:
        """Apply what the service has handled, into the tables beside the live ones."""
        await uow.fetchval(_SEE_REBUILT, self._schema)
        for topic, project in self.model.projections.items():
            of_topic = [pair for message in messages if message.topic == topic.name for pair in _decode(message, topic)]
            handled_ids = await self._find_handled(uow, topic, {delivery.id for _, delivery in of_topic})
            deliveries = [delivery for _, delivery in of_topic if delivery.id in handled_ids]
            self._unhandled += [message for message, delivery in of_topic if delivery.id not in handled_ids]
            if deliveries:
                await project(uow, deliveries)
                self.events += len(deliveries)

    async def _find_handled(self, uow: UnitOfWork, topic: Topic, ids: Collection[UUID]) -> set[UUID]:
        """By the inbox. What is older than a new reader goes back counts as handled: a reader that began since has not
        seen it, and the inbox forgets. Whoever is that late handles it once more, which changes nothing.
        """
        known_since = self.database.clock() - NEW_READER_AGE
        old_ids = {each for each in ids if (made_at := get_creation_time(each)) and made_at < known_since}
        consumer = Subscription(self.model.group, topic).name
        return old_ids | set(await _FIND_HANDLED.fetch_values(uow, consumer=consumer, ids=list(ids)))

    async def _compare_and_replace(self) -> RebuildResult:
        """With the writers of the live tables waiting, apply the rest and compare; readers go on."""
        async with self.database.unit_of_work() as uow:
            for table in self.model.tables:
                await uow.execute(_name_table(_LOCK, table))
            await self._catch_up(uow)
            rebuilt = [await compute_digest(uow, table, self.model.empty_rows) for table in self.model.tables]
            await uow.execute(_SEE_LIVE)
            live = [await compute_digest(uow, table, self.model.empty_rows) for table in self.model.tables]
            if any(before > after for (after, _), (before, _) in zip(rebuilt, live, strict=True)):
                raise LogTooShort(
                    "the topics don't reach back as far as the read model: "
                    + ", ".join(
                        f"{table} has {before} rows, {after} of them from what is kept"
                        for table, (after, _), (before, _) in zip(self.model.tables, rebuilt, live, strict=True)
                    )
                    + ". Nothing was changed."
                )
            if rebuilt != live:
                await self._replace_rows(uow)
        return RebuildResult(self.events, sum(rows for rows, _ in rebuilt), rebuilt == live)

    async def _catch_up(self, uow: UnitOfWork) -> None:
        """Apply what was unhandled or not read before. Writers wait meanwhile, so it has a bound: a partition without a
        leader can't be read for as long as it has none.
        """
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                unhandled, self._unhandled = self._unhandled, []
                await self._apply_messages(uow, unhandled)
                while messages := await self.log.read_messages(_BATCH_SIZE):
                    await self._apply_messages(uow, messages)
        except TimeoutError as error:
            raise LogUnreadable(
                f"the topics could not be read to their end within {_CATCH_UP_SECONDS:g} seconds. Nothing was changed."
                " See that each of their partitions has a leader, and try again when the shop has less to do."
            ) from error

    async def _replace_rows(self, uow: UnitOfWork) -> None:
        for table in self.model.tables:
            await uow.execute(_name_table(_DELETE_ALL.text, table))
        await uow.fetchval(_SEE_REBUILT, self._schema)
        for table in self.model.tables:
            await uow.execute(_name_table(_REPLACE, table))


def _decode(message: LoggedMessage, topic: Topic) -> list[tuple[LoggedMessage, Delivery[Any]]]:
    """A message with what it says; nothing for one that nobody can read: the service has given it up, so that it made
    no row.
    """
    accepted_types = {event.type: event for event in topic.events}
    try:
        return [(message, decode_message(message.body, accepted_types, shared=False))]
    except MalformedMessage:
        return []


async def compute_digest(uow: UnitOfWork, table: str, empty_rows: Mapping[str, str]) -> tuple[int, str]:
    """Number of rows, and a hash over all of them: equal for tables that are equal to the byte. Of the table that the
    search path has first; without its `empty_rows`.
    """
    row = await uow.fetchrow(_name_table(_DIGEST.text, table).replace("false", empty_rows.get(table, "false")))
    assert row is not None
    return row[0], row[1]
