"""Reads the books of the services, through read-only roles that see the columns which their owners name, and by SQL of
its own: what is compared here must not be computed by the code that wrote it.

A connection for each database is opened when a comparison needs it and closed after it: one that waits between
comparisons would cost the server more memory than opening it again costs time.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import orjson

from services.reconciliation.model.books import (
    ORDER_SERVICES,
    OrderBooks,
    OrderPage,
    PaymentPage,
    ReservationPage,
    SagaPage,
    ShipmentPage,
)

OUTBOXES = (
    "identity",
    "catalog",
    "inventory",
    "orders",
    "processing",
    "payments",
    "shipping",
    "notifications",
    "recommendations",
    "analytics",
)
"""The databases that have an outbox and an owner other than this service."""

_ORDERS = """
    SELECT asked.id, e.changed_at, e.is_paid, e.is_shipped, e.is_delivered, e.is_undone, o.amount, o.currency, o.lines
    FROM unnest($1::uuid[]) AS asked(id)
    JOIN LATERAL (
        SELECT max(time) AS changed_at,
            bool_or(type = 'orders.PaymentCompleted') AS is_paid,
            bool_or(type = 'orders.OrderShipped') AS is_shipped,
            bool_or(type = 'orders.OrderDelivered') AS is_delivered,
            bool_or(type IN ('orders.OrderCancelled', 'orders.InventoryRejected', 'orders.PaymentFailed')) AS is_undone
        FROM event WHERE stream = asked.id
    ) e ON e.changed_at IS NOT NULL
    LEFT JOIN order_amount o ON o.order_id = asked.id
"""
_PAYMENTS = """
    SELECT p.order_id, greatest(p.updated_at, r.requested_at, r.refunded_at, a.changed_at) AS changed_at,
        p.due_at IS NOT NULL OR p.status IN ('capturing', 'retrying', 'refunding') OR coalesce(a.is_open, false)
            AS is_open,
        p.amount, p.currency, a.captured,
        CASE WHEN r.order_id IS NULL THEN 0 WHEN r.state = 'done' THEN r.amount END AS refunded
    FROM unnest($1::uuid[]) AS asked(id)
    JOIN payment p ON p.order_id = asked.id
    LEFT JOIN refund r ON r.order_id = asked.id
    LEFT JOIN LATERAL (
        SELECT array_agg(attempt ORDER BY attempt) FILTER (WHERE state = 'captured') AS captured,
            bool_or(state IN ('sent', 'unknown')) AS is_open,
            max(coalesce(finished_at, started_at)) AS changed_at
        FROM payment_attempt WHERE order_id = asked.id
    ) a ON true
"""
_RESERVATIONS = """
    SELECT r.order_id, r.updated_at, r.state, r.lines
    FROM unnest($1::uuid[]) AS asked(id) JOIN reservation r ON r.order_id = asked.id
"""
_SHIPMENTS = """
    SELECT s.order_id, greatest(s.requested_at, s.shipped_at, s.delivered_at, s.cancelled_at) AS changed_at,
        s.status IN ('shipped', 'delivered') AS is_shipped, s.parcels
    FROM unnest($1::uuid[]) AS asked(id) JOIN shipment s ON s.order_id = asked.id
"""
_SAGAS = """
    SELECT s.order_id, s.started_at, s.closed FROM unnest($1::uuid[]) AS asked(id) JOIN saga s ON s.order_id = asked.id
"""
_UNSENT = "SELECT DISTINCT key FROM outbox WHERE key = ANY($1::text[])"
_PAGES_OF_IDS = {
    "orders": "SELECT stream FROM event WHERE version = 1 AND stream > $1 ORDER BY stream LIMIT $2",
    "payments": "SELECT order_id FROM payment WHERE order_id > $1 ORDER BY order_id LIMIT $2",
    "inventory": "SELECT order_id FROM reservation WHERE order_id > $1 ORDER BY order_id LIMIT $2",
    "shipping": "SELECT order_id FROM shipment WHERE order_id > $1 ORDER BY order_id LIMIT $2",
}
_CHANGED_SINCE = {
    "payments": (
        "SELECT order_id FROM payment WHERE updated_at >= $1"
        " UNION SELECT order_id FROM payment_attempt WHERE coalesce(finished_at, started_at) >= $1"
        " UNION SELECT order_id FROM refund WHERE requested_at >= $1 OR refunded_at >= $1"
    ),
    "inventory": "SELECT order_id FROM reservation WHERE updated_at >= $1",
    "shipping": (
        "SELECT order_id FROM shipment WHERE greatest(requested_at, shipped_at, delivered_at, cancelled_at) >= $1"
    ),
}
_EVENTS = """
    SELECT stream, transaction::text AS transaction, position FROM event
    WHERE (transaction, position) > ($1::text::xid8, $2)
        AND transaction < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY event.transaction, event.position LIMIT $3
"""
_END = """
    SELECT transaction::text AS transaction, position FROM event
    WHERE transaction < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY event.transaction DESC, event.position DESC LIMIT 1
"""
_OVERDUE = """
    SELECT channel, count(*) AS messages, min(created_at) AS oldest, count(refused_at) AS refused
    FROM outbox WHERE created_at < $1 OR (refused_at IS NOT NULL AND refused_at < $2) GROUP BY channel
"""


class Connection(Protocol):
    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]: ...


@dataclass(slots=True)
class Books:
    """The books of the services, each by the name of its database."""

    connections: dict[str, Connection]
    _connect: Callable[[str], Awaitable[Connection]] | None = field(default=None)

    async def fetch(self, database: str, query: str, *arguments: Any) -> list[asyncpg.Record]:
        connection = self.connections.get(database)
        if connection is None:
            assert self._connect is not None, f"there are no books of {database}"
            connection = self.connections[database] = await self._connect(database)
        return await connection.fetch(query, *arguments)


@asynccontextmanager
async def open_books(connect: Callable[[str], Awaitable[asyncpg.Connection]]) -> AsyncIterator[Books]:
    async with AsyncExitStack() as stack:

        async def connect_and_keep(database: str) -> Connection:
            connection = await connect(database)
            stack.push_async_callback(connection.close, timeout=5)
            return connection

        yield Books({}, connect_and_keep)


async def read_orders(books: Books, order_ids: Sequence[UUID]) -> dict[UUID, OrderBooks]:
    """What the services' books have of these orders; the provider's lines are added by who has them."""
    found = {order_id: OrderBooks(order_id) for order_id in order_ids}
    ids = list(found)
    # The last to change is read first: what follows from it is then there, or has not been read yet.
    for row in await books.fetch("processing", _SAGAS, ids):
        found[row[0]].saga = SagaPage(row[1], row[2])
    for row in await books.fetch("orders", _ORDERS, ids):
        found[row[0]].order = OrderPage(row[1], row[2], row[3], row[4], row[5], row[6], row[7], _sum_units(row[8]))
    for row in await books.fetch("payments", _PAYMENTS, ids):
        found[row[0]].payment = PaymentPage(row[1], row[2], row[3], row[4], tuple(row[5] or ()), row[6])
    for row in await books.fetch("inventory", _RESERVATIONS, ids):
        found[row[0]].reservation = ReservationPage(row[1], row[2], _sum_units(row[3]))
    for row in await books.fetch("shipping", _SHIPMENTS, ids):
        found[row[0]].shipment = ShipmentPage(row[1], row[2], _sum_units(row[3]))
    return found


def _sum_units(lines: str | None) -> dict[str, int]:
    """By sku, of a JSON object of quantities or a list of lines."""
    parsed = orjson.loads(lines or "{}")
    if isinstance(parsed, dict):
        return parsed
    units: dict[str, int] = {}
    for line in parsed:
        units[line["sku"]] = units.get(line["sku"], 0) + line["quantity"]
    return units


async def find_unsent(books: Books, order_ids: Iterable[UUID]) -> set[UUID]:
    """Orders of which a message waits in an outbox. Asked of the few that don't add up."""
    keys = [str(order_id) for order_id in order_ids]
    return {UUID(row[0]) for database in ORDER_SERVICES for row in await books.fetch(database, _UNSENT, keys)}


async def list_ids(books: Books, after: UUID, limit: int, ours: list[UUID]) -> list[UUID]:
    """The next ids that any of the books has, in order; none at their end. `ours`: those of the provider's books."""
    pages = [[row[0] for row in await books.fetch(name, text, after, limit)] for name, text in _PAGES_OF_IDS.items()]
    pages.append(ours)
    full = [page[-1] for page in pages if len(page) == limit]
    last = min(full, default=None)
    return sorted({order_id for page in pages for order_id in page if last is None or order_id <= last})


async def list_changed(books: Books, since: datetime) -> set[UUID]:
    return {row[0] for name, text in _CHANGED_SINCE.items() for row in await books.fetch(name, text, since)}


async def list_events(
    books: Books, transaction: int, position: int, limit: int
) -> tuple[set[UUID], tuple[int, int] | None]:
    """The orders of the next events in the order of commits, and how far that is; None at the end."""
    rows = await books.fetch("orders", _EVENTS, str(transaction), position, limit)
    if not rows:
        return set(), None
    return {row[0] for row in rows}, (int(rows[-1]["transaction"]), rows[-1]["position"])


async def find_end(books: Books) -> tuple[int, int]:
    """How far the events go now, in the order of commits."""
    rows = await books.fetch("orders", _END)
    return (int(rows[0]["transaction"]), rows[0]["position"]) if rows else (0, 0)


async def list_overdue(
    books: Books, database: str, before: datetime, refused_before: datetime
) -> list[tuple[str, int, datetime, int]]:
    """By channel: messages that were not published, the oldest of them, and how many the bus refused."""
    return [tuple(row) for row in await books.fetch(database, _OVERDUE, before, refused_before)]
