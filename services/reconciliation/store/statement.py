"""The copy of the provider's books, and what of its money our books explain."""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import all_, and_, bindparam, delete, or_, select

from caravan.clock import parse_id
from caravan.database import Database
from caravan.database import tables as sql
from caravan.database.conditions import is_among
from caravan.database.query import Query, Upsert
from caravan.database.tables import col
from services.payments.client import StatementEntry
from services.reconciliation import tables
from services.reconciliation.model.books import StatementLine


class ForeignEntry(NamedTuple):
    """An entry whose reference is none of our ids."""

    key: str
    kind: str
    amount: int
    currency: str
    at: datetime


class MoneyRow(NamedTuple):
    """Of one day (UTC) and currency, in minor units: what came in and went back at the provider, and how much of it no
    open case questions.
    """

    day: date
    currency: str
    captured: int
    refunded: int
    captured_in_question: int
    refunded_in_question: int


_ENTRY = tables.ProviderEntry
_MOVED_MONEY = or_(col(_ENTRY.outcome) == "captured", col(_ENTRY.outcome) == "refunded")
_SAVE: Upsert[StatementEntry] = Upsert(
    _ENTRY,
    {
        "key": lambda entry: entry.key,
        "order_id": lambda entry: parse_id(entry.reference),
        "kind": lambda entry: entry.kind,
        "outcome": lambda entry: entry.outcome,
        "amount": lambda entry: entry.amount,
        "currency": lambda entry: entry.currency,
        "at": lambda entry: entry.at,
    },
    shared=("read_in",),
)
_LINES = Query(
    select(
        col(_ENTRY.order_id),
        col(_ENTRY.key),
        col(_ENTRY.kind),
        col(_ENTRY.amount),
        col(_ENTRY.currency),
        col(_ENTRY.at),
    ).where(is_among(col(_ENTRY.order_id), "orders"), _MOVED_MONEY),
    lambda order_id, *line: (order_id, StatementLine(*line)),
)
_FOREIGN = Query(
    select(col(_ENTRY.key), col(_ENTRY.kind), col(_ENTRY.amount), col(_ENTRY.currency), col(_ENTRY.at)).where(
        and_(col(_ENTRY.order_id).is_(None), _MOVED_MONEY, col(_ENTRY.at) <= bindparam("watermark"))
    ),
    ForeignEntry,
)
_FORGET_UNREAD = Query(delete(_ENTRY).where(col(_ENTRY.read_in) < bindparam("run_id")))
_FORGET_OTHERS = Query(
    delete(_ENTRY).where(
        is_among(col(_ENTRY.order_id), "orders"), col(_ENTRY.key) != all_(bindparam("keys", type_=sql.ARRAY(sql.TEXT)))
    )
)
_PAGE_OF_ORDERS = Query(
    select(col(_ENTRY.order_id))
    .where(col(_ENTRY.order_id) > bindparam("after", type_=sql.UUID))
    .distinct()
    .order_by(col(_ENTRY.order_id))
    .limit(bindparam("limit")),
    UUID,
)
_MONEY = """
    SELECT (e.at AT TIME ZONE 'UTC')::date AS day, e.currency,
        coalesce(sum(e.amount) FILTER (WHERE e.outcome = 'captured'), 0)::bigint AS captured,
        coalesce(sum(e.amount) FILTER (WHERE e.outcome = 'refunded'), 0)::bigint AS refunded,
        coalesce(sum(e.amount) FILTER (WHERE e.outcome = 'captured' AND q.subject IS NOT NULL), 0)::bigint
            AS captured_in_question,
        coalesce(sum(e.amount) FILTER (WHERE e.outcome = 'refunded' AND q.subject IS NOT NULL), 0)::bigint
            AS refunded_in_question
    FROM provider_entry e
    LEFT JOIN (
        SELECT DISTINCT subject FROM gap_case
        WHERE state IN ('open', 'awaiting_approval', 'repairing') AND gap_class = ANY($3)
    ) q ON q.subject = coalesce(e.order_id::text, e.key)
    WHERE e.at >= $1 AND e.at < $2 AND e.outcome IN ('captured', 'refunded')
    GROUP BY 1, 2 ORDER BY 1, 2
"""


async def save_entries(database: Database, entries: Sequence[StatementEntry], run_id: UUID) -> set[UUID]:
    """The orders of these entries."""
    by_key = {entry.key: entry for entry in entries}
    if by_key:
        await _SAVE.execute(database, list(by_key.values()), read_in=run_id)
    return {order_id for entry in entries if (order_id := parse_id(entry.reference)) is not None}


async def forget_unread(database: Database, run_id: UUID) -> None:
    """Entries that were there before this comparison and that it has not found any more."""
    await _FORGET_UNREAD.execute(database, run_id=run_id)


async def forget_others(database: Database, order_ids: Collection[UUID], keys: Collection[str]) -> None:
    """Entries of these orders that the provider does not list any more."""
    await _FORGET_OTHERS.execute(database, orders=list(order_ids), keys=list(keys))


async def read_lines(database: Database, order_ids: Collection[UUID]) -> list[tuple[UUID, StatementLine]]:
    return await _LINES.fetch_all(database, orders=list(order_ids))


async def list_order_ids(database: Database, after: UUID, limit: int) -> list[UUID]:
    return await _PAGE_OF_ORDERS.fetch_values(database, after=after, limit=limit)


async def list_foreign(database: Database, watermark: datetime) -> list[ForeignEntry]:
    return await _FOREIGN.fetch_all(database, watermark=watermark)


async def sum_money(database: Database, first: datetime, end: datetime, classes: Collection[str]) -> list[MoneyRow]:
    """`classes`: those whose open cases put an order's money in question."""
    return [MoneyRow(*row) for row in await database.fetch(_MONEY, first, end, list(classes))]
