"""What a batch has changed, saved in one statement: stock, the movements of its ledger, and reservations.

Use cases read and lock the rows by `stock_table.py` and `reservation_table.py` before.
"""

from collections.abc import Sequence

import orjson

from caravan.database import UnitOfWork
from services.inventory.model import Reservation, StockLedger

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
