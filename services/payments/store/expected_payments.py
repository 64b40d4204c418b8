"""The queries of payments before any attempt: orders that will be charged, that end uncharged, or that are held."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import orjson
from sqlalchemy import bindparam, or_
from sqlalchemy.dialects.postgresql import insert

from caravan.database import Database, UnitOfWork
from caravan.database import tables as sql
from caravan.database.query import Query
from caravan.database.tables import col
from services.payments.messages import ExpectPayment
from services.payments.tables import Payment

_EXPECTED = {
    "order_id": bindparam("order_id"),
    "status": "expected",
    "amount": 0,
    "currency": bindparam("currency"),
    "created_at": bindparam("now", type_=sql.TIMESTAMPTZ),
    "updated_at": bindparam("now", type_=sql.TIMESTAMPTZ),
}
_CREATE_MISSING = Query(insert(Payment).values(_EXPECTED).on_conflict_do_nothing(index_elements=["order_id"]))
_HELD = insert(Payment).values({**_EXPECTED, "held_until": bindparam("held_until")})
_HOLD = Query(
    _HELD.on_conflict_do_update(
        index_elements=["order_id"],
        set_={"held_until": _HELD.excluded.held_until},
        where=or_(*(col(Payment.status) == status for status in ("expected", "capturing", "retrying"))),
    )
)
_INSERT_EXPECTED = """
    WITH expected AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::text[], $9::text[], $10::json[])
            AS t(order_id, user_id, amount, currency, method, token, email, customer_name, billing_address, lines)
    ), saved AS (
        INSERT INTO payment AS p (order_id, user_id, status, amount, currency, method, token, created_at, updated_at)
        SELECT order_id, user_id, 'expected', amount, currency, method, token, $11, $11 FROM expected ORDER BY order_id
        ON CONFLICT (order_id) DO UPDATE SET user_id = excluded.user_id, amount = excluded.amount,
            currency = excluded.currency, method = excluded.method,
            token = CASE WHEN p.status = 'expected' THEN excluded.token ELSE '' END,
            status = CASE WHEN p.status = 'expected' AND p.cause IS NOT NULL THEN 'retrying' ELSE p.status END,
            due_at = CASE WHEN p.status = 'expected' AND p.cause IS NOT NULL THEN $11 ELSE p.due_at END,
            updated_at = excluded.updated_at
        WHERE p.user_id IS NULL
        RETURNING order_id, status
    ), invoice_data AS (
        INSERT INTO bill (order_id, email, customer_name, billing_address, lines)
        SELECT order_id, email, customer_name, billing_address, lines FROM expected JOIN saved USING (order_id)
    )
    SELECT order_id FROM saved WHERE status = 'retrying'
"""


async def insert_expected_payments(uow: UnitOfWork, orders: Sequence[ExpectPayment], now: datetime) -> list[UUID]:
    """Orders that will be charged. Known ones stay as they are; one that has ended gets no token. Those whose command
    to charge has come before: their first attempt is due now.
    """
    rows = await uow.fetch(
        _INSERT_EXPECTED,
        [o.order_id for o in orders],
        [o.user_id for o in orders],
        [o.amount.amount for o in orders],
        [o.amount.currency for o in orders],
        [o.method for o in orders],
        [o.token for o in orders],
        [o.email for o in orders],
        [o.customer_name for o in orders],
        [o.billing_address for o in orders],
        [orjson.dumps([line.model_dump() for line in o.lines]).decode() for o in orders],
        now,
    )
    return [row[0] for row in rows]


async def void_expected_payments(uow: UnitOfWork, reasons: Mapping[UUID, str], currency: str, now: datetime) -> None:
    """Orders that ended before anything was charged, and why: neither a late command nor a late announcement must
    charge them.
    """
    await uow.execute(
        "INSERT INTO payment AS p (order_id, status, amount, currency, reason, created_at, updated_at)"
        " SELECT o, 'voided', 0, $3, r, $4, $4 FROM unnest($1::uuid[], $2::text[]) AS t(o, r) ORDER BY o"
        " ON CONFLICT (order_id) DO UPDATE SET status = excluded.status, reason = excluded.reason, token = '',"
        " updated_at = excluded.updated_at"
        " WHERE p.status = 'expected'",
        list(reasons),
        list(reasons.values()),
        currency,
        now,
    )


async def hold_payment(database: Database, order_id: UUID, currency: str, held_until: datetime, now: datetime) -> None:
    """From the commit of this on no attempt begins; one that has begun is not touched."""
    await _HOLD.execute(database, order_id=order_id, currency=currency, held_until=held_until, now=now)


async def create_missing_payment(uow: UnitOfWork, order_id: UUID, currency: str, now: datetime) -> None:
    """A row to lock, for an order without a payment."""
    await _CREATE_MISSING.execute(uow, order_id=order_id, currency=currency, now=now)
