"""The queries of refunds and their credit notes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert

from caravan.database import Database, UnitOfWork
from caravan.database.query import Query
from caravan.database.tables import col, list_columns
from caravan.messages import Delivery
from services.payments import tables
from services.payments.model import Payment, Refund
from services.payments.schemas import RefundState


class RefundRow(NamedTuple):
    state: RefundState
    amount: int
    reason: str
    requested_at: datetime
    refunded_at: datetime | None


_BY_ORDER = col(tables.Refund.order_id) == bindparam("order_id")
_NEW = insert(tables.Refund).values(
    order_id=bindparam("order_id"),
    state=bindparam("state"),
    amount=bindparam("amount"),
    reason=bindparam("reason"),
    due_at=bindparam("due_at"),
    traceparent=bindparam("traceparent"),
    actor=bindparam("actor"),
    cause=bindparam("cause"),
    requested_at=bindparam("requested_at"),
    refunded_at=bindparam("refunded_at"),
)
_INSERT = Query(
    # The row that is there is returned only when it is written.
    _NEW.on_conflict_do_update(index_elements=["order_id"], set_={"reason": col(tables.Refund.reason)}).returning(
        col(tables.Refund.amount), col(tables.Refund.reason)
    ),
    lambda amount, reason: (amount, reason),
)
_SAVE_REQUEST = Query(
    update(tables.Payment)
    .where(col(tables.Payment.order_id) == bindparam("order_id"))
    .values(
        status=bindparam("status"),
        due_at=bindparam("due_at"),
        reason=bindparam("reason"),
        token=bindparam("token"),
        refund_asked=True,
        updated_at=bindparam("now"),
    )
)
_POSTPONE = Query(
    update(tables.Refund)
    .where(_BY_ORDER, col(tables.Refund.state) != "done")
    .values(state="unknown", due_at=bindparam("due_at"))
)
_FIND = Query(select(*list_columns(tables.Refund, RefundRow)).where(_BY_ORDER), RefundRow)


async def request_refund(
    uow: UnitOfWork, payment: Payment, command: Delivery[Any], reason: str, now: datetime
) -> tuple[int, str]:
    """Write down that a refund was asked for, once per order: its amount and reason as they stand."""
    await _SAVE_REQUEST.execute(
        uow,
        order_id=payment.order_id,
        status=payment.status,
        due_at=payment.due_at,
        reason=payment.reason,
        token=payment.token if payment.due_at else "",
        now=now,
    )
    is_done, is_refunding = payment.status in ("voided", "failed"), payment.status == "refunding"
    row = await _INSERT.fetch_one(
        uow,
        order_id=payment.order_id,
        state="done" if is_done else "requested",
        amount=payment.amount if is_refunding else 0,
        reason=reason,
        due_at=now if is_refunding else None,
        traceparent=command.traceparent,
        actor=command.actor,
        cause=command.id,
        requested_at=now,
        refunded_at=now if is_done else None,
    )
    assert row is not None
    return row


async def settle_waiting_refunds(
    uow: UnitOfWork, payments: Sequence[Payment], now: datetime
) -> dict[UUID, asyncpg.Record]:
    """Refunds that waited for the outcome of a capture: due now, or done with nothing to give back. Their reasons, and
    who asked for them.
    """
    rows = await uow.fetch(
        "UPDATE refund r SET amount = t.amount, due_at = t.due_at, state = t.state,"
        " refunded_at = CASE WHEN t.state = 'done' THEN $5::timestamptz END"
        " FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[]) AS t(order_id, amount, due_at, state)"
        " WHERE r.order_id = t.order_id RETURNING r.order_id, r.reason, r.cause, r.traceparent, r.actor",
        [p.order_id for p in payments],
        [p.amount if p.status == "refunding" else 0 for p in payments],
        [now if p.status == "refunding" else None for p in payments],
        ["requested" if p.status == "refunding" else "done" for p in payments],
        now,
    )
    return {row["order_id"]: row for row in rows}


async def claim_due_refunds(database: Database, lease: datetime, now: datetime, limit: int) -> list[Refund]:
    """Refunds to make, or to ask about again; recorded as sent before the call."""
    rows = await database.fetch(
        "WITH due AS (SELECT order_id FROM refund WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED),"
        " claimed AS (UPDATE refund r SET state = 'sent', asked = asked + 1, due_at = $2 FROM due"
        " WHERE r.order_id = due.order_id RETURNING r.*)"
        " SELECT t.order_id, t.amount, p.currency, t.reason, t.asked AS calls, a.charge, t.traceparent, t.actor,"
        " t.cause"
        " FROM claimed t JOIN payment p ON p.order_id = t.order_id LEFT"
        " JOIN payment_attempt a ON a.order_id = t.order_id AND a.state = 'captured'",
        now,
        lease,
        limit,
    )
    return [Refund(**row) for row in rows]


async def finish_refunds(uow: UnitOfWork, orders: Sequence[UUID], now: datetime) -> set[UUID]:
    """The refunds that this call, and none before it, has finished; their credit notes are numbered without gaps."""
    rows = await uow.fetch(
        """
        WITH finished AS (
            UPDATE refund SET state = 'done', due_at = NULL, refunded_at = $2
            WHERE order_id IN (
                SELECT order_id FROM refund WHERE order_id = ANY($1) AND state <> 'done' ORDER BY order_id FOR UPDATE
            ) RETURNING order_id
        ), counted AS (
            UPDATE credit_note_counter SET last = last + (SELECT count(*) FROM finished)
            WHERE EXISTS (SELECT FROM finished) RETURNING last
        ), credit_notes AS (
            INSERT INTO credit_note (number, order_id, issued_at)
            SELECT last + 1 - row_number() OVER (ORDER BY order_id DESC), order_id, $2 FROM counted, finished
        ), revised AS (
            UPDATE invoice i SET revision = i.revision + 1 FROM finished WHERE i.order_id = finished.order_id
        )
        UPDATE payment p SET status = 'refunded', updated_at = $2 FROM finished WHERE p.order_id = finished.order_id
        RETURNING p.order_id
        """,
        list(orders),
        now,
    )
    return {row[0] for row in rows}


async def postpone_refund(uow: UnitOfWork, order_id: UUID, due_at: datetime) -> None:
    await _POSTPONE.execute(uow, order_id=order_id, due_at=due_at)


async def find_refund(database: Database, order_id: UUID) -> RefundRow | None:
    return await _FIND.fetch_one(database, order_id=order_id)
