"""The queries of refunds and their credit notes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from caravan.database import Database, UnitOfWork
from caravan.messages import Delivery
from services.payments.model import Payment, Refund


async def request_refund(
    uow: UnitOfWork, payment: Payment, command: Delivery[Any], reason: str, now: datetime
) -> tuple[int, str]:
    """Write down that a refund was asked for, once per order: its amount and reason as they stand."""
    await uow.execute(
        "UPDATE payment SET status = $2, due_at = $3, reason = $4, refund_asked = true, updated_at = $5,"
        " token = CASE WHEN $3::timestamptz IS NULL THEN '' ELSE token END WHERE order_id = $1",
        payment.order_id,
        payment.status,
        payment.due_at,
        payment.reason,
        now,
    )
    row = await uow.fetchrow(
        "INSERT INTO refund AS r (order_id, state, amount, reason, due_at, traceparent, actor, cause, requested_at,"
        " refunded_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        " ON CONFLICT (order_id) DO UPDATE SET reason = r.reason RETURNING amount, reason",
        payment.order_id,
        "done" if payment.status in ("voided", "failed") else "requested",
        payment.amount if payment.status == "refunding" else 0,
        reason,
        now if payment.status == "refunding" else None,
        command.traceparent,
        command.actor,
        command.id,
        now,
        now if payment.status in ("voided", "failed") else None,
    )
    assert row is not None
    return row["amount"], row["reason"]


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
    await uow.execute(
        "UPDATE refund SET state = 'unknown', due_at = $2 WHERE order_id = $1 AND state <> 'done'", order_id, due_at
    )


async def find_refund(database: Database, order_id: UUID) -> asyncpg.Record | None:
    return await database.fetchrow(
        "SELECT state, amount, reason, requested_at, refunded_at FROM refund WHERE order_id = $1", order_id
    )
