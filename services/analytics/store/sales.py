"""Writes what the group `reporting` reads: what was sold, to whom and where to, and what was given back.

As in `facts.py` every statement gives the same rows in whatever order and however often the messages come. Each says
on which days (UTC) the orders were placed that it changed, as far as they are known by then.
"""

from collections.abc import Sequence
from datetime import date

from caravan.database import UnitOfWork
from services.analytics.store.facts import AmountsAt
from services.orders.messages import OrderCreated

_DAY = "(placed_at AT TIME ZONE 'UTC')::date"


async def record_orders(uow: UnitOfWork, orders: Sequence[OrderCreated]) -> set[date]:
    lines = [(order.order_id, number, line) for order in orders for number, line in enumerate(order.lines)]
    days = await uow.fetch(
        "WITH lines AS (INSERT INTO order_line_fact (order_id, line, sku, name, category, quantity, unit_price)"
        " SELECT * FROM unnest($8::uuid[], $9::int[], $10::text[], $11::text[], $12::text[], $13::bigint[],"
        " $14::bigint[]) ON CONFLICT DO NOTHING),"
        " written AS (INSERT INTO sale (order_id, user_id, placed_at, country, currency, total, units)"
        " SELECT DISTINCT ON (o) o, u, p, l, c, t, n FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[],"
        " $5::text[], $6::bigint[], $7::bigint[]) AS input (o, u, p, l, c, t, n) ORDER BY o"
        " ON CONFLICT (order_id) DO UPDATE SET user_id = EXCLUDED.user_id, placed_at = EXCLUDED.placed_at,"
        " country = EXCLUDED.country, currency = EXCLUDED.currency, total = EXCLUDED.total, units = EXCLUDED.units"
        " WHERE sale.placed_at IS NULL RETURNING placed_at)"
        f" SELECT DISTINCT {_DAY} FROM written",
        [order.order_id for order in orders],
        [order.user_id for order in orders],
        [order.placed_at for order in orders],
        [order.shipping_address.country for order in orders],
        [order.total.currency for order in orders],
        [order.total.amount for order in orders],
        [sum(line.quantity for line in order.lines) for order in orders],
        [order_id for order_id, _, _ in lines],
        [number for _, number, _ in lines],
        [line.sku for _, _, line in lines],
        [line.name for _, _, line in lines],
        [line.category for _, _, line in lines],
        [line.quantity for _, _, line in lines],
        [line.unit_price for _, _, line in lines],
    )
    return {day for (day,) in days}


async def record_amounts(uow: UnitOfWork, amounts: Sequence[AmountsAt]) -> set[date]:
    """All that was captured and given back for an order so far, by each message about it; the largest counts."""
    if not amounts:
        return set()
    days = await uow.fetch(
        "WITH written AS (INSERT INTO sale (order_id, captured, refunded, currency, paid_at, refunded_at)"
        " SELECT o, max(captured), max(refunded), max(c), min(paid_at), min(refunded_at)"
        " FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[])"
        " AS input (o, captured, refunded, c, paid_at, refunded_at) GROUP BY o ORDER BY o"
        " ON CONFLICT (order_id) DO UPDATE SET captured = GREATEST(sale.captured, EXCLUDED.captured),"
        " refunded = GREATEST(sale.refunded, EXCLUDED.refunded),"
        " paid_at = LEAST(sale.paid_at, EXCLUDED.paid_at),"
        " refunded_at = LEAST(sale.refunded_at, EXCLUDED.refunded_at),"
        " currency = coalesce(sale.currency, EXCLUDED.currency) RETURNING placed_at)"
        f" SELECT DISTINCT {_DAY} FROM written WHERE placed_at IS NOT NULL",
        *zip(*amounts, strict=True),
    )
    return {day for (day,) in days}
