"""Finds the messages of one key: those that a service's consumers have handled (`inbox`), and those that it has not
sent yet (`outbox`).
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

import orjson
from sqlalchemy import bindparam, exists, select

from caravan.bus import Subscription
from caravan.clock import as_id
from caravan.database import INBOX_RETENTION, Database
from caravan.database.conditions import is_among
from caravan.database.kernel_tables import Inbox, Outbox
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from caravan.messages import Binding, ChannelType, Queue, Topic
from caravan.timeline.schemas import (
    HandledMessage,
    TimelineGap,
    TimelinePart,
    TimelineRequest,
    WaitingMessage,
)

MESSAGES_SHOWN = 1_000
OUTBOX_ROWS_READ = 20_000
"""The outbox has no index by key: of a long one the newest rows are looked at."""
MESSAGE_SOURCES = ("topics", "queues")

Describe = Callable[[Any, UUID, Sequence[HandledMessage]], Awaitable[TimelinePart]]
"""What a service's own tables tell of a key, given the messages of the key that it has handled."""


class ReadSubscription(NamedTuple):
    """A subscription of the service, and the types of messages that it reads."""

    subscription: Subscription
    types: tuple[str, ...]


class _HandledRow(NamedTuple):
    consumer: str
    message_id: UUID
    type: str | None
    cause: UUID | None
    attempt: int | None
    refused: int | None
    handled_at: datetime


class _OutboxRow(NamedTuple):
    message_id: UUID
    kind: str
    channel: str
    body: bytes
    created_at: datetime
    refused_at: datetime | None
    reason: str | None


_FIND_HANDLED = Query(
    select(*list_columns(Inbox, _HandledRow))
    .where(col(Inbox.key) == bindparam("key"))
    .order_by(col(Inbox.handled_at), col(Inbox.message_id), col(Inbox.consumer))
    .limit(bindparam("limit")),
    _HandledRow,
)
_FIND_CAUSES = Query(
    select(col(Inbox.message_id), col(Inbox.cause)).where(
        col(Inbox.consumer) == bindparam("consumer"),
        is_among(col(Inbox.message_id), "ids"),
        col(Inbox.cause).is_not(None),
    ),
    lambda message_id, cause: (message_id, cause),
)
_NEWEST = (
    select(*list_columns(Outbox, _OutboxRow), col(Outbox.key), col(Outbox.id))
    .order_by(col(Outbox.id).desc())
    .limit(bindparam("rows"))
    .subquery()
)
_FIND_WAITING = Query(
    select(*(_NEWEST.c[name] for name in _OutboxRow._fields))
    .where(_NEWEST.c.key == bindparam("key"))
    .order_by(_NEWEST.c.id)
    .limit(bindparam("limit")),
    _OutboxRow,
)
_HAS_MORE_ROWS = Query(
    select(exists(select(col(Outbox.id)).order_by(col(Outbox.id).desc()).offset(bindparam("rows")).limit(1))), bool
)


async def find_handled_messages(
    database: Database, consumers: Iterable[ReadSubscription], key: UUID
) -> tuple[list[HandledMessage], bool]:
    """The messages of a key that these consumers have handled, in the order of their first handling, and whether there
    are more.
    """
    by_name = {each.subscription.name: each for each in consumers}
    rows = await _FIND_HANDLED.fetch_all(database, key=key, limit=MESSAGES_SHOWN + 1)
    # an older release may have read what this one does not
    known = [row for row in rows[:MESSAGES_SHOWN] if row.consumer in by_name]
    return [_to_handled_message(row, by_name[row.consumer]) for row in known], len(rows) > MESSAGES_SHOWN


def _to_handled_message(row: _HandledRow, consumer: ReadSubscription) -> HandledMessage:
    return HandledMessage(
        id=row.message_id,
        type=row.type or consumer.types[0],
        channel=consumer.subscription.channel,
        channel_type=get_channel_type(consumer.subscription),
        consumer=row.consumer,
        cause=row.cause,
        attempt=row.attempt or 1,
        refused=row.refused or 0,
        handled_at=row.handled_at,
    )


async def find_causes(database: Database, consumer: str, message_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The causes of messages that a consumer has handled, where they have one."""
    return dict(await _FIND_CAUSES.fetch_all(database, consumer=consumer, ids=list(message_ids)))


async def find_waiting_messages(database: Database, key: UUID) -> tuple[list[WaitingMessage], bool]:
    """Those of the outbox's newest rows, the oldest first, and whether there are more."""
    rows = await _FIND_WAITING.fetch_all(database, key=str(key), rows=OUTBOX_ROWS_READ, limit=MESSAGES_SHOWN + 1)
    return [_to_waiting_message(row) for row in rows[:MESSAGES_SHOWN]], len(rows) > MESSAGES_SHOWN


def _to_waiting_message(row: _OutboxRow) -> WaitingMessage:
    envelope = orjson.loads(row.body)
    cause = envelope.get("causationid")
    return WaitingMessage(
        id=row.message_id,
        type=envelope["type"],
        channel=row.channel,
        channel_type=cast(ChannelType, row.kind),
        cause=as_id(cause) if cause else None,
        created_at=row.created_at,
        refused_at=row.refused_at,
        reason=row.reason,
    )


async def answer_timeline(
    context: Any, request: TimelineRequest, consumers: Sequence[ReadSubscription], describe: Describe | None
) -> TimelinePart:
    """The part of a service: its messages, without those that it has given up, and what it describes itself."""
    handled, has_more_handled = await find_handled_messages(context.database, consumers, request.key)
    part = await describe(context, request.key, handled) if describe else TimelinePart()
    part.handled = handled
    part.waiting, has_more_waiting = await find_waiting_messages(context.database, request.key)
    if consumers:
        before = context.clock() - INBOX_RETENTION
        part.gaps += _list_gaps(f"{context.service} keeps handled messages for {INBOX_RETENTION.days} days", before)
    if has_more_handled:
        part.gaps += _list_gaps(f"{context.service} has handled more than {MESSAGES_SHOWN} messages of it")
    if has_more_waiting:
        part.gaps += _list_gaps(f"more than {MESSAGES_SHOWN} messages of it wait in the outbox of {context.service}")
    if await _HAS_MORE_ROWS.fetch_value(context.database, rows=OUTBOX_ROWS_READ):
        part.gaps += _list_gaps(f"only the newest {OUTBOX_ROWS_READ} messages in {context.service}'s outbox were read")
    return part


def _list_gaps(reason: str, before: datetime | None = None) -> list[TimelineGap]:
    """Of both sources: a row does not tell which of them is concerned."""
    return [TimelineGap(source=source, reason=reason, before=before) for source in MESSAGE_SOURCES]


class CauseFinder:
    """Says which handled message made an entry: of each type the first one that has made none yet."""

    def __init__(self, handled: Iterable[HandledMessage]) -> None:
        self._ids: dict[str, list[UUID]] = {}
        for message in handled:
            self._ids.setdefault(message.type, []).append(message.id)

    def take_cause(self, *types: str) -> str | None:
        for type_name in types:
            if ids := self._ids.get(type_name):
                return str(ids.pop(0))
        return None


def get_channel_type(subscription: Subscription) -> ChannelType:
    match subscription.source:
        case Topic():
            return "topic"
        case Queue():
            return "queue"
        case Binding():
            return "exchange"
