"""Writes what the group `analytics` reads about orders: what a batch of messages says, by one statement each.

Every statement gives the same rows in whatever order and however often the messages come: a row is made by whichever
message is first; of times the first wins, of amounts the largest. Rows are locked by key, so that two batches can't
wait for each other. What was sold is written by `sales.py` beside this, for the group `reporting`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from caravan.database import UnitOfWork
from services.orders.messages import OrderCreated

Step = Literal["shipped_at", "delivered_at"]
AmountsAt = tuple[UUID, int, int, str, datetime | None, datetime | None]
"""Order; minor units captured and given back; currency; when each was."""


async def record_orders(uow: UnitOfWork, orders: Sequence[OrderCreated]) -> None:
    await uow.execute(
        "INSERT INTO order_fact (order_id, user_id, placed_at, total, currency, units)"
        " SELECT DISTINCT ON (o) o, u, p, t, c, n FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[],"
        " $4::bigint[], $5::text[], $6::bigint[])"
        " AS input (o, u, p, t, c, n) ORDER BY o"
        " ON CONFLICT (order_id) DO UPDATE SET user_id = EXCLUDED.user_id, placed_at = EXCLUDED.placed_at,"
        " total = EXCLUDED.total,"
        " currency = EXCLUDED.currency, units = EXCLUDED.units WHERE order_fact.placed_at IS NULL",
        [order.order_id for order in orders],
        [order.user_id for order in orders],
        [order.placed_at for order in orders],
        [order.total.amount for order in orders],
        [order.total.currency for order in orders],
        [sum(line.quantity for line in order.lines) for order in orders],
    )


async def record_outcomes(uow: UnitOfWork, outcomes: Sequence[tuple[UUID, str, datetime]]) -> None:
    await uow.execute(
        "INSERT INTO order_fact (order_id, outcome, processed_at)"
        " SELECT DISTINCT ON (o) o, r, t FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS input (o, r,"
        " t) ORDER BY o, t, r"
        " ON CONFLICT (order_id) DO UPDATE SET outcome = EXCLUDED.outcome, processed_at = EXCLUDED.processed_at"
        " WHERE order_fact.processed_at IS NULL OR (EXCLUDED.processed_at,"
        " EXCLUDED.outcome) < (order_fact.processed_at, order_fact.outcome)",
        *_to_columns(outcomes),
    )


async def record_amounts(uow: UnitOfWork, amounts: Sequence[AmountsAt]) -> None:
    """All that was captured and given back for an order so far, by each message about it; the largest counts."""
    if not amounts:
        return
    await uow.execute(
        "INSERT INTO order_fact (order_id, captured, refunded, currency, paid_at, refunded_at)"
        " SELECT o, max(captured), max(refunded), max(c), min(paid_at), min(refunded_at)"
        " FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[])"
        " AS input (o, captured, refunded, c, paid_at, refunded_at) GROUP BY o ORDER BY o"
        " ON CONFLICT (order_id) DO UPDATE SET captured = GREATEST(order_fact.captured, EXCLUDED.captured),"
        " refunded = GREATEST(order_fact.refunded, EXCLUDED.refunded),"
        " paid_at = LEAST(order_fact.paid_at, EXCLUDED.paid_at),"
        " refunded_at = LEAST(order_fact.refunded_at, EXCLUDED.refunded_at),"
        " currency = coalesce(order_fact.currency, EXCLUDED.currency)",
        *_to_columns(amounts),
    )


async def record_step(uow: UnitOfWork, step: Step, orders: Sequence[tuple[UUID, datetime]]) -> None:
    await uow.execute(
        f"INSERT INTO order_fact (order_id, {step}) SELECT o, min(t)"
        " FROM unnest($1::uuid[], $2::timestamptz[]) AS input (o, t) GROUP BY o ORDER BY o"
        f" ON CONFLICT (order_id) DO UPDATE SET {step} = LEAST(order_fact.{step}, EXCLUDED.{step})",
        *_to_columns(orders),
    )


async def record_cancellations(uow: UnitOfWork, orders: Sequence[tuple[UUID, int, datetime]]) -> None:
    """Orders with what was given back for each."""
    await uow.execute(
        "INSERT INTO order_fact (order_id, refunded, cancelled_at, refunded_at)"
        " SELECT o, max(a), min(t), min(t) FILTER (WHERE a > 0)"
        " FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS input (o, a, t) GROUP BY o ORDER BY o"
        " ON CONFLICT (order_id) DO UPDATE SET refunded = GREATEST(order_fact.refunded, EXCLUDED.refunded),"
        " cancelled_at = LEAST(order_fact.cancelled_at, EXCLUDED.cancelled_at),"
        " refunded_at = LEAST(order_fact.refunded_at, EXCLUDED.refunded_at)",
        *_to_columns(orders),
    )


def _to_columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
