"""The rows of stock, ledger and reservations, read and written for a whole batch at a time."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from caravan.database import Database, UnitOfWork
from services.inventory.messages import Shortage
from services.inventory.model import Reservation, Shelf, Stock

STOCK = "sku, on_hand, reserved, shipped, received, adjusted, version"
RESERVATION = "order_id, state, lines, shortages, reason, expires_at, created_at, updated_at"


async def lock_stock(work: UnitOfWork, skus: Collection[str]) -> Shelf:
    """The stock of these skus, locked in their order so that two batches can't wait for each other."""
    if not skus:
        return Shelf(())
    rows = await work.fetch(f"SELECT {STOCK} FROM stock WHERE sku = ANY($1) ORDER BY sku FOR UPDATE", list(skus))
    return Shelf(Stock(*row) for row in rows)


async def make_stock(work: UnitOfWork, skus: Collection[str]) -> None:
    """An empty row for each sku that has none."""
    await work.execute("INSERT INTO stock (sku) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", sorted(skus))


async def record_references(work: UnitOfWork, references: Collection[str], now: datetime) -> set[str]:
    """Those that are new. One that somebody else is recording now is waited for."""
    rows = await work.fetch(
        "INSERT INTO movement_reference (reference, recorded_at) SELECT r, $2 FROM unnest($1::text[]) AS r ORDER BY r"
        " ON CONFLICT DO NOTHING RETURNING reference",
        list(references),
        now,
    )
    return {row["reference"] for row in rows}


async def find_reservations(work: UnitOfWork, orders: Collection[UUID]) -> dict[UUID, Reservation]:
    rows = await work.fetch(f"SELECT {RESERVATION} FROM reservation WHERE order_id = ANY($1)", list(orders))
    return {row["order_id"]: _reservation(row) for row in rows}


async def lock_reservations(work: UnitOfWork, orders: Collection[UUID]) -> dict[UUID, Reservation]:
    rows = await work.fetch(f"SELECT {RESERVATION} FROM reservation WHERE order_id = ANY($1) ORDER BY order_id FOR UPDATE", list(orders))
    return {row["order_id"]: _reservation(row) for row in rows}


async def mark_released(work: UnitOfWork, reasons: Mapping[UUID, str], now: datetime) -> None:
    """Empty, released reservations for orders that have none. It waits for one that is being made at this moment, and leaves it as it is."""
    await work.execute(
        "INSERT INTO reservation (order_id, state, lines, shortages, reason, created_at, updated_at)"
        " SELECT o, 'released', '{}', '[]', r, $3, $3 FROM unnest($1::uuid[], $2::text[]) AS n(o, r) ORDER BY o ON CONFLICT DO NOTHING",
        list(reasons),
        list(reasons.values()),
        now,
    )


async def lock_expired(work: UnitOfWork, now: datetime, limit: int) -> list[Reservation]:
    rows = await work.fetch(
        f"SELECT {RESERVATION} FROM reservation WHERE state = 'held' AND expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return [_reservation(row) for row in rows]


async def keep(work: UnitOfWork, orders: Collection[UUID]) -> None:
    """These are paid: what is held for them does not expire any more."""
    await work.execute(
        "UPDATE reservation SET expires_at = NULL WHERE order_id IN"
        " (SELECT order_id FROM reservation WHERE order_id = ANY($1) AND state = 'held' AND expires_at IS NOT NULL ORDER BY order_id FOR UPDATE)",
        list(orders),
    )


def _reservation(row: asyncpg.Record) -> Reservation:
    return Reservation(
        row["order_id"],
        row["state"],
        orjson.loads(row["lines"]),
        row["created_at"],
        row["updated_at"],
        [Shortage(**shortage) for shortage in orjson.loads(row["shortages"])],
        row["reason"],
        row["expires_at"],
    )


_SAVE = """
    WITH moved AS (
        UPDATE stock AS s
        SET on_hand = n.on_hand, reserved = n.reserved, shipped = n.shipped, received = n.received, adjusted = n.adjusted, version = n.version
        FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
            AS n(sku, on_hand, reserved, shipped, received, adjusted, version)
        WHERE s.sku = n.sku
    ), recorded AS (
        INSERT INTO movement (sku, version, kind, quantity, on_hand, reserved, order_id, actor, reason, time)
        SELECT * FROM unnest($8::text[], $9::bigint[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::uuid[], $15::text[], $16::text[], $17::timestamptz[])
    )
    INSERT INTO reservation (order_id, state, lines, shortages, reason, expires_at, created_at, updated_at)
    SELECT * FROM unnest($18::uuid[], $19::text[], $20::json[], $21::json[], $22::text[], $23::timestamptz[], $24::timestamptz[], $25::timestamptz[])
"""
_CHANGE = " ON CONFLICT (order_id) DO UPDATE SET state = EXCLUDED.state, lines = EXCLUDED.lines, reason = EXCLUDED.reason, expires_at = EXCLUDED.expires_at, updated_at = EXCLUDED.updated_at"


async def add(work: UnitOfWork, shelf: Shelf, reservations: Sequence[Reservation]) -> None:
    """Stock, ledger and new reservations in one statement. A reservation that somebody else made meanwhile ends the unit of work."""
    await work.execute(_SAVE, *_columns(shelf, reservations))


async def change(work: UnitOfWork, shelf: Shelf, reservations: Sequence[Reservation]) -> None:
    """Stock, ledger and reservations that are locked, in one statement."""
    await work.execute(_SAVE + _CHANGE, *_columns(shelf, reservations))


def _columns(shelf: Shelf, reservations: Sequence[Reservation]) -> list[list[object]]:
    stocks = shelf.changed().values()
    moved = [(s.sku, s.on_hand, s.reserved, s.shipped, s.received, s.adjusted, s.version) for s in stocks]
    kept = [
        (
            r.order_id,
            r.state,
            orjson.dumps(r.lines).decode(),
            orjson.dumps([shortage.model_dump() for shortage in r.shortages]).decode(),
            r.reason,
            r.expires_at,
            r.created_at,
            r.updated_at,
        )
        for r in reservations
    ]
    return [*_turned(moved, 7), *_turned(shelf.movements, 10), *_turned(kept, 8)]


def _turned(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


async def announce(work: UnitOfWork, skus: Collection[str] | None, limit: int) -> list[Stock]:
    """Stock that changed since it was last announced, among these skus or all, marked as announced. One that is being changed now is left for later."""
    among = "sku = ANY($2) AND" if skus is not None else ""
    rows = await work.fetch(
        f"UPDATE stock SET announced = version WHERE sku IN"
        f" (SELECT sku FROM stock WHERE {among} announced < version ORDER BY sku LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING {STOCK}",
        limit,
        *([list(skus)] if skus is not None else []),
    )
    return [Stock(*row) for row in rows]


async def find_stock(database: Database, skus: Collection[str]) -> list[Stock]:
    rows = await database.fetch(f"SELECT {STOCK} FROM stock WHERE sku = ANY($1)", list(skus))
    return [Stock(*row) for row in rows]


async def ledger(database: Database, sku: str, before: int | None, limit: int) -> list[asyncpg.Record]:
    """The movements of a sku, newest first."""
    return await database.fetch(
        "SELECT sku, version, kind, quantity, on_hand, reserved, order_id, actor, reason, time FROM movement"
        " WHERE sku = $1 AND ($2::bigint IS NULL OR version < $2) ORDER BY version DESC LIMIT $3",
        sku,
        before,
        limit,
    )


async def violations(database: Database) -> list[asyncpg.Record]:
    """The skus whose numbers break a law, or differ from their ledger or from the reservations held. Empty in a sound shop."""
    return await database.fetch("""
        WITH booked AS (
            SELECT sku, count(*) AS versions, max(version) AS version,
                coalesce(sum(quantity) FILTER (WHERE kind = 'receive'), 0) AS received,
                coalesce(sum(quantity) FILTER (WHERE kind IN ('adjust', 'count')), 0) AS adjusted,
                coalesce(sum(CASE kind WHEN 'ship' THEN quantity WHEN 'return' THEN -quantity END), 0) AS shipped,
                coalesce(sum(CASE kind WHEN 'reserve' THEN quantity WHEN 'release' THEN -quantity WHEN 'ship' THEN -quantity END), 0) AS reserved
            FROM movement GROUP BY sku
        ), held AS (
            SELECT line.key AS sku, sum(line.value::bigint) AS reserved FROM reservation, json_each_text(lines) AS line WHERE state = 'held' GROUP BY line.key
        )
        SELECT s.sku, s.on_hand, s.reserved, s.shipped, s.received, s.adjusted, s.version, b.reserved AS booked, h.reserved AS held
        FROM stock s LEFT JOIN booked b USING (sku) LEFT JOIN held h USING (sku)
        WHERE s.on_hand < 0 OR s.reserved < 0 OR s.reserved > s.on_hand
            OR (s.on_hand - s.reserved) + s.reserved + s.shipped <> s.received + s.adjusted
            OR (s.version, s.version, s.received, s.adjusted, s.shipped, s.reserved)
                IS DISTINCT FROM (coalesce(b.versions, 0), coalesce(b.version, 0), coalesce(b.received, 0), coalesce(b.adjusted, 0), coalesce(b.shipped, 0), coalesce(b.reserved, 0))
            OR s.reserved <> coalesce(h.reserved, 0)
        ORDER BY s.sku
    """)
