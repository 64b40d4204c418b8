"""The queries of payments: what each order is charged with, and each attempt to charge it."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from operator import lt
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, bindparam, func, null, select

from caravan.database import Database, UnitOfWork
from caravan.database.conditions import compare_if_given, is_among
from caravan.database.query import Query
from caravan.database.tables import col, get_table, list_columns, list_fields, select_columns
from caravan.messages import Delivery
from services.payments import tables
from services.payments.messages import CapturePayment, PaymentStatus
from services.payments.model import CaptureResult, Payment
from services.payments.schemas import AttemptState


class PaymentRow(NamedTuple):
    """A payment as the API shows it; `number` is that of its invoice."""

    order_id: UUID
    user_id: UUID | None
    status: PaymentStatus
    amount: int
    currency: str
    attempt: int
    due_at: datetime | None
    reason: str
    created_at: datetime
    updated_at: datetime
    number: int | None


class AttemptRow(NamedTuple):
    attempt: int
    state: AttemptState
    calls: int
    charge: str | None
    reason: str
    started_at: datetime
    finished_at: datetime | None


_ORDER_ID = col(tables.Payment.order_id)
_CALLS = func.coalesce(col(tables.PaymentAttempt.calls), 1)
_STORED_FIELDS = [name for name in list_fields(Payment) if name not in ("calls", "invoice")]
_PAYMENT_COLUMNS = ", ".join(f"p.{column.name}" for column in select_columns(tables.Payment, _STORED_FIELDS))
_PAYMENT_COLUMNS += ", coalesce(a.asked, 1) AS calls"
"""Of the statements as text: `p` is the payment, `a` its present attempt."""
_WITH_ATTEMPT = get_table(tables.Payment).outerjoin(
    get_table(tables.PaymentAttempt),
    and_(
        col(tables.PaymentAttempt.order_id) == _ORDER_ID,
        col(tables.PaymentAttempt.attempt) == col(tables.Payment.attempt),
    ),
)
_IS_INVOICED = col(tables.Invoice.order_id) == _ORDER_ID
_BY_ORDERS = is_among(col(tables.Payment.order_id), "orders")
_FIND = Query(
    select(*list_columns(tables.Payment, Payment, calls=_CALLS, invoice=col(tables.Invoice.number)))
    .select_from(_WITH_ATTEMPT.outerjoin(get_table(tables.Invoice), _IS_INVOICED))
    .where(_BY_ORDERS),
    Payment,
)
_LOCK = Query(
    select(*list_columns(tables.Payment, Payment, calls=_CALLS, invoice=null()))
    .select_from(_WITH_ATTEMPT)
    .where(_BY_ORDERS)
    .order_by(_ORDER_ID)
    .with_for_update(of=get_table(tables.Payment)),
    Payment,
)
_LIST_RETRIES = Query(
    select(_ORDER_ID, col(tables.Payment.attempt) + 1, col(tables.Payment.due_at))
    .where(col(tables.Payment.due_at).is_not(None), col(tables.Payment.status) == "retrying")
    .order_by(col(tables.Payment.due_at))
    .limit(bindparam("limit")),
    lambda order_id, attempt, due_at: (order_id, attempt, due_at),
)
_ROWS = select(*list_columns(tables.Payment, PaymentRow, number=col(tables.Invoice.number))).select_from(
    get_table(tables.Payment).outerjoin(get_table(tables.Invoice), _IS_INVOICED)
)
_FIND_ROW = Query(_ROWS.where(col(tables.Payment.order_id) == bindparam("order_id")), PaymentRow)
_PAGE = (
    _ROWS.where(compare_if_given(col(tables.Payment.order_id), "before", lt))
    .order_by(_ORDER_ID.desc())
    .limit(bindparam("limit"))
)
_LIST = Query(_PAGE, PaymentRow)
_LIST_BY_STATUS = Query(_PAGE.where(col(tables.Payment.status) == bindparam("status")), PaymentRow)
_LIST_ATTEMPTS = Query(
    select(*list_columns(tables.PaymentAttempt, AttemptRow))
    .where(col(tables.PaymentAttempt.order_id) == bindparam("order_id"))
    .order_by(col(tables.PaymentAttempt.attempt)),
    AttemptRow,
)

_BEGIN_CAPTURES = f"""
    WITH commands AS (
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) AS t(order_id, traceparent, actor, cause)
    ), saved AS (
        INSERT INTO payment AS p (order_id, status, amount, currency, traceparent, actor, cause, created_at, updated_at)
        SELECT order_id, 'expected', 0, $7, traceparent, actor, cause, $6, $6 FROM commands ORDER BY order_id
        ON CONFLICT (order_id) DO UPDATE SET traceparent = excluded.traceparent, actor = excluded.actor,
            cause = excluded.cause,
            status = CASE WHEN p.user_id IS NULL THEN 'expected' WHEN p.held_until > $6 THEN 'retrying'
                ELSE 'capturing' END,
            attempt = CASE WHEN p.user_id IS NULL OR p.held_until > $6 THEN 0 ELSE 1 END,
            due_at = CASE WHEN p.user_id IS NULL THEN NULL WHEN p.held_until > $6 THEN $6 ELSE $5::timestamptz END,
            updated_at = excluded.updated_at
        WHERE p.status = 'expected'
        RETURNING p.*
    ), sent AS (
        INSERT INTO payment_attempt (order_id, attempt, state, started_at)
        SELECT order_id, 1, 'sent', $6::timestamptz FROM saved WHERE status = 'capturing' RETURNING order_id, asked
    )
    SELECT {_PAYMENT_COLUMNS} FROM saved p JOIN sent a ON a.order_id = p.order_id
"""


async def begin_captures(
    database: Database, commands: Sequence[Delivery[CapturePayment]], currency: str, lease: datetime, now: datetime
) -> list[Payment]:
    """Record the first attempt of each order that has none, before the call: the payments that are new. The sweeper
    asks after `lease`. An order that is not expected yet is stored and begins as soon as it is; one that is held begins
    when the hold ends.
    """
    rows = await database.fetch(
        _BEGIN_CAPTURES,
        [d.message.order_id for d in commands],
        [d.traceparent for d in commands],
        [d.actor for d in commands],
        [d.id for d in commands],
        lease,
        now,
        currency,
    )
    return [Payment(**row) for row in rows]


async def find_payments(database: Database, orders: Collection[UUID]) -> list[Payment]:
    """Payments as they are, with the numbers of their invoices."""
    return await _FIND.fetch_all(database, orders=list(orders))


_CLAIM = f""" claimed AS (UPDATE payment p SET attempt = p.attempt + (p.status = 'retrying')::int, status = 'capturing',
    due_at = $4, updated_at = $3
        FROM due WHERE p.order_id = due.order_id RETURNING p.*),
    sent AS (INSERT INTO payment_attempt AS t (order_id, attempt, state, started_at)
        SELECT order_id, attempt, 'sent', $3 FROM claimed
        ON CONFLICT (order_id, attempt) DO UPDATE SET asked = t.asked + 1 RETURNING order_id, asked)
    SELECT {_PAYMENT_COLUMNS} FROM claimed p JOIN sent a ON a.order_id = p.order_id"""


async def claim_due_payments(
    database: Database, lease: datetime, now: datetime, limit: int, grace: timedelta
) -> list[Payment]:
    """Payments whose next question about the present attempt is due, or whose next attempt has been due for a while and
    no job has made it; recorded as sent before the call.
    """
    rows = await database.fetch(
        "WITH due AS (SELECT order_id FROM payment WHERE due_at <= $3 AND (status <> 'retrying'"
        " OR due_at <= $3 - $2::interval AND (held_until IS NULL OR held_until <= $3))"
        " ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED),"
        f"{_CLAIM}",
        limit,
        grace,
        now,
        lease,
    )
    return [Payment(**row) for row in rows]


async def claim_retries(
    database: Database, attempts: Sequence[tuple[UUID, int]], lease: datetime, now: datetime
) -> list[Payment]:
    """These attempts, where each is the next one of its payment; recorded as sent before the call."""
    rows = await database.fetch(
        "WITH attempts AS (SELECT * FROM unnest($1::uuid[], $2::int[]) AS t (order_id, attempt)),"
        " due AS (SELECT p.order_id FROM payment p JOIN attempts a ON a.order_id = p.order_id"
        " AND a.attempt = p.attempt + 1"
        " WHERE p.status = 'retrying' AND (p.held_until IS NULL OR p.held_until <= $3) ORDER BY p.order_id"
        " FOR UPDATE OF p SKIP LOCKED),"
        f"{_CLAIM}",
        [order_id for order_id, _ in attempts],
        [attempt for _, attempt in attempts],
        now,
        lease,
    )
    return [Payment(**row) for row in rows]


async def list_retries(database: Database, limit: int) -> list[tuple[UUID, int, datetime]]:
    """Payments that wait for another attempt: order, that attempt, and when it is due; the soonest first."""
    return await _LIST_RETRIES.fetch_all(database, limit=limit)


async def lock_payments(uow: UnitOfWork, orders: Collection[UUID]) -> dict[UUID, Payment]:
    return {found.order_id: found for found in await _LOCK.fetch_all(uow, orders=list(orders))}


_SAVE_RESULTS = """
    WITH decided AS (
        SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[])
            AS t(order_id, attempt, status, due_at, reason, state, charge)
    ), tried AS (
        UPDATE payment_attempt a SET state = d.state, charge = d.charge, reason = d.reason,
            finished_at = CASE WHEN d.state <> 'unknown' THEN $8::timestamptz END
        FROM decided d WHERE a.order_id = d.order_id AND a.attempt = d.attempt
    ), moved AS (
        UPDATE payment p SET status = d.status, due_at = d.due_at, reason = d.reason, updated_at = $8,
            token = CASE WHEN d.due_at IS NULL THEN '' ELSE p.token END
        FROM decided d WHERE p.order_id = d.order_id
    ), counted AS (
        UPDATE invoice_counter SET last = last + $10::int WHERE $10 > 0 RETURNING last
    )
    INSERT INTO invoice (number, order_id, issued_at)
    SELECT last - $10 + position, order_id, $8
    FROM counted, unnest($9::uuid[]) WITH ORDINALITY AS paid(order_id, position)
    RETURNING order_id, number
"""


async def save_results(
    uow: UnitOfWork, payment_results: Sequence[tuple[Payment, CaptureResult]], now: datetime
) -> dict[UUID, int]:
    """Store the results of attempts. Returns the invoice numbers of those that were captured, without gaps."""
    payments = [payment for payment, _ in payment_results]
    results = [result for _, result in payment_results]
    paid_orders = [payment.order_id for payment, result in payment_results if result.state == "captured"]
    rows = await uow.fetch(
        _SAVE_RESULTS,
        [p.order_id for p in payments],
        [p.attempt for p in payments],
        [p.status for p in payments],
        [p.due_at for p in payments],
        [p.reason for p in payments],
        [a.state for a in results],
        [a.charge for a in results],
        now,
        paid_orders,
        len(paid_orders),
    )
    return {row["order_id"]: row["number"] for row in rows}


async def find_payment_row(database: Database, order_id: UUID) -> PaymentRow | None:
    return await _FIND_ROW.fetch_one(database, order_id=order_id)


async def list_payments(database: Database, status: str | None, before: UUID | None, limit: int) -> list[PaymentRow]:
    """Newest order first."""
    if status is None:
        return await _LIST.fetch_all(database, before=before, limit=limit)
    return await _LIST_BY_STATUS.fetch_all(database, before=before, limit=limit, status=status)


async def list_attempts(database: Database, order_id: UUID) -> list[AttemptRow]:
    return await _LIST_ATTEMPTS.fetch_all(database, order_id=order_id)
