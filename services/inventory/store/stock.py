"""The queries of stock, its ledger and reservations, each for a whole batch."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from caravan.database import Database, UnitOfWork
from services.inventory.messages import Shortage
from services.inventory.model import Reservation, Stock, StockLedger

STOCK_COLUMNS = "sku, on_hand, reserved, shipped, received, adjusted, version"
RESERVATION_COLUMNS = "order_id, state, lines, shortages, reason, expires_at, created_at, updated_at"


async def lock_stock(uow: UnitOfWork, skus: Collection[str]) -> StockLedger:
    """The stock of these skus, locked in their order so that two batches can't wait for each other."""
    if not skus:
        return StockLedger(())
    rows = await uow.fetch(f"SELECT {STOCK_COLUMNS} FROM stock WHERE sku = ANY($1) ORDER BY sku FOR UPDATE", list(skus))
    return StockLedger(Stock(*row) for row in rows)


async def create_missing_stock(uow: UnitOfWork, skus: Collection[str]) -> None:
    """An empty row for each sku that has none."""
    await uow.execute("INSERT INTO stock (sku) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", sorted(skus))


async def record_references(uow: UnitOfWork, references: Collection[str], now: datetime) -> set[str]:
    """Those that are new. One that somebody else is recording now is waited for."""
    rows = await uow.fetch(
        "INSERT INTO movement_reference (reference, recorded_at) SELECT r, $2 FROM unnest($1::text[]) AS r ORDER BY r"
        " ON CONFLICT DO NOTHING RETURNING reference",
        list(references),
        now,
    )
    return {row["reference"] for row in rows}


async def find_reservations(uow: UnitOfWork, orders: Collection[UUID]) -> dict[UUID, Reservation]:
    rows = await uow.fetch(f"SELECT {RESERVATION_COLUMNS} FROM reservation WHERE order_id = ANY($1)", list(orders))
    return {row["order_id"]: _to_reservation(row) for row in rows}


async def lock_reservations(uow: UnitOfWork, orders: Collection[UUID]) -> dict[UUID, Reservation]:
    rows = await uow.fetch(
        f"SELECT {RESERVATION_COLUMNS} FROM reservation WHERE order_id = ANY($1) ORDER BY order_id FOR UPDATE",
        list(orders),
    )
    return {row["order_id"]: _to_reservation(row) for row in rows}


async def insert_released_reservations(uow: UnitOfWork, reasons: Mapping[UUID, str], now: datetime) -> None:
    """Empty, released reservations for orders that have none. It waits for one that is being made at this moment, and
    leaves it as it is.
    """
    await uow.execute(
        "INSERT INTO reservation (order_id, state, lines, shortages, reason, created_at, updated_at)"
        " SELECT o, 'released', '{}', '[]', r, $3, $3 FROM unnest($1::uuid[], $2::text[]) AS n(o, r)"
        " ORDER BY o ON CONFLICT DO NOTHING",
        list(reasons),
        list(reasons.values()),
        now,
    )


async def lock_expired_reservations(uow: UnitOfWork, now: datetime, limit: int) -> list[Reservation]:
    rows = await uow.fetch(
        f"SELECT {RESERVATION_COLUMNS} FROM reservation WHERE state = 'held' AND expires_at <= $1"
        " ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return [_to_reservation(row) for row in rows]


async def clear_expiry(uow: UnitOfWork, orders: Collection[UUID]) -> None:
    """These are paid: what is held for them does not expire any more."""
    await uow.execute(
        "UPDATE reservation SET expires_at = NULL WHERE order_id IN"
        " (SELECT order_id FROM reservation WHERE order_id = ANY($1) AND state = 'held'"
        " AND expires_at IS NOT NULL ORDER BY order_id FOR UPDATE)",
        list(orders),
    )


def _to_reservation(row: asyncpg.Record) -> Reservation:
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
        SET on_hand = n.on_hand, reserved = n.reserved, shipped = n.shipped, received = n.received,
            adjusted = n.adjusted, version = n.version
        FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
            AS n(sku, on_hand, reserved, shipped, received, adjusted, version)
        WHERE s.sku = n.sku
    ), recorded AS (
        INSERT INTO movement (sku, version, kind, quantity, on_hand, reserved, order_id, actor, reason, time)
        SELECT * FROM unnest($8::text[], $9::bigint[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[],
            $14::uuid[], $15::text[], $16::text[], $17::timestamptz[])
    )
    INSERT INTO reservation (order_id, state, lines, shortages, reason, expires_at, created_at, updated_at)
    SELECT * FROM unnest($18::uuid[], $19::text[], $20::json[], $21::json[], $22::text[], $23::timestamptz[],
        $24::timestamptz[], $25::timestamptz[])
"""
_ON_CONFLICT_UPDATE = (
    " ON CONFLICT (order_id) DO UPDATE SET state = EXCLUDED.state, lines = EXCLUDED.lines, reason = EXCLUDED.reason,"
    " expires_at = EXCLUDED.expires_at, updated_at = EXCLUDED.updated_at"
)


async def save_with_new_reservations(uow: UnitOfWork, ledger: StockLedger, reservations: Sequence[Reservation]) -> None:
    """Stock, ledger and new reservations in one statement. A reservation that somebody else made meanwhile ends the
    unit of work.
    """
    await uow.execute(_SAVE, *_to_arguments(ledger, reservations))


async def save_with_locked_reservations(
    uow: UnitOfWork, ledger: StockLedger, reservations: Sequence[Reservation]
) -> None:
    """Stock, ledger and reservations that are locked, in one statement."""
    await uow.execute(_SAVE + _ON_CONFLICT_UPDATE, *_to_arguments(ledger, reservations))


def _to_arguments(ledger: StockLedger, reservations: Sequence[Reservation]) -> list[list[object]]:
    stocks = ledger.get_changed_stocks().values()
    stock_rows = [(s.sku, s.on_hand, s.reserved, s.shipped, s.received, s.adjusted, s.version) for s in stocks]
    reservation_rows = [
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
    return [*_to_columns(stock_rows, 7), *_to_columns(ledger.movements, 10), *_to_columns(reservation_rows, 8)]


def _to_columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


async def claim_unannounced_stock(uow: UnitOfWork, skus: Collection[str] | None, limit: int) -> list[Stock]:
    """Stock that changed since it was last announced, among these skus or all, marked as announced. One that is being
    changed now is left for later.
    """
    sku_filter = "sku = ANY($2) AND" if skus is not None else ""
    rows = await uow.fetch(
        f"UPDATE stock SET announced = version WHERE sku IN"
        f" (SELECT sku FROM stock WHERE {sku_filter} announced < version ORDER BY sku LIMIT $1"
        f" FOR UPDATE SKIP LOCKED) RETURNING {STOCK_COLUMNS}",
        limit,
        *([list(skus)] if skus is not None else []),
    )
    return [Stock(*row) for row in rows]


async def find_stock(database: Database, skus: Collection[str]) -> list[Stock]:
    rows = await database.fetch(f"SELECT {STOCK_COLUMNS} FROM stock WHERE sku = ANY($1)", list(skus))
    return [Stock(*row) for row in rows]


async def list_movements(database: Database, sku: str, before: int | None, limit: int) -> list[asyncpg.Record]:
    """The movements of a sku, newest first."""
    return await database.fetch(
        "SELECT sku, version, kind, quantity, on_hand, reserved, order_id, actor, reason, time FROM movement"
        " WHERE sku = $1 AND ($2::bigint IS NULL OR version < $2) ORDER BY version DESC LIMIT $3",
        sku,
        before,
        limit,
    )


async def find_violations(database: Database) -> list[asyncpg.Record]:
    """The skus whose numbers break a law, or differ from their ledger or from the reservations held. Empty in a sound
    shop.
    """
    return await database.fetch("""
        WITH booked AS (
            SELECT sku, count(*) AS versions, max(version) AS version,
                coalesce(sum(quantity) FILTER (WHERE kind = 'receive'), 0) AS received,
                coalesce(sum(quantity) FILTER (WHERE kind IN ('adjust', 'count')), 0) AS adjusted,
                coalesce(sum(CASE kind WHEN 'ship' THEN quantity WHEN 'return' THEN -quantity END), 0) AS shipped,
                coalesce(sum(CASE kind WHEN 'reserve' THEN quantity WHEN 'release' THEN -quantity
                    WHEN 'ship' THEN -quantity END), 0) AS reserved
            FROM movement GROUP BY sku
        ), held AS (
            SELECT line.key AS sku, sum(line.value::bigint) AS reserved FROM reservation, json_each_text(lines) AS line
                WHERE state = 'held' GROUP BY line.key
        )
        SELECT s.sku, s.on_hand, s.reserved, s.shipped, s.received, s.adjusted, s.version, b.reserved AS booked,
            h.reserved AS held
        FROM stock s LEFT JOIN booked b USING (sku) LEFT JOIN held h USING (sku)
        WHERE s.on_hand < 0 OR s.reserved < 0 OR s.reserved > s.on_hand
            OR (s.on_hand - s.reserved) + s.reserved + s.shipped <> s.received + s.adjusted
            OR (s.version, s.version, s.received, s.adjusted, s.shipped, s.reserved)
                IS DISTINCT FROM (coalesce(b.versions, 0), coalesce(b.version, 0), coalesce(b.received, 0),
                    coalesce(b.adjusted, 0), coalesce(b.shipped, 0), coalesce(b.reserved, 0))
            OR s.reserved <> coalesce(h.reserved, 0)
        ORDER BY s.sku
    """)
