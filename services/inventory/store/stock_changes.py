"""What a batch has changed, saved in one statement: stock, the movements of its ledger, and reservations.

Use cases read and lock the rows by `stock_table.py` and `reservation_table.py` before.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import orjson

from caravan.database import UnitOfWork
from caravan.database.query import RowArrays, assign_columns
from caravan.database.tables import list_fields
from services.inventory import tables
from services.inventory.model import Movement, Reservation, Stock, StockLedger

_READERS: dict[str, Callable[[Reservation], Any]] = {
    **{name: attrgetter(name) for name in list_fields(Reservation)},
    "lines": lambda r: orjson.dumps(r.lines).decode(),
    "shortages": lambda r: orjson.dumps([shortage.model_dump() for shortage in r.shortages]).decode(),
}
_STOCKS = RowArrays(tables.Stock, Stock)
_MOVEMENTS = RowArrays(tables.Movement, Movement, first=1 + len(_STOCKS.fields))
_RESERVATIONS = RowArrays(tables.Reservation, _READERS, first=1 + len(_STOCKS.fields) + len(_MOVEMENTS.fields))
_NUMBERS = [name for name in _STOCKS.fields if name != "sku"]
_SAVE = f"""
    WITH moved AS (
        UPDATE stock AS s SET {assign_columns(tables.Stock, _NUMBERS, "n")}
        FROM {_STOCKS.unnest} AS n({_STOCKS.names}) WHERE s.sku = n.sku
    ), recorded AS (
        INSERT INTO movement ({_MOVEMENTS.names}) SELECT * FROM {_MOVEMENTS.unnest}
    )
    INSERT INTO reservation ({_RESERVATIONS.names}) SELECT * FROM {_RESERVATIONS.unnest}
"""
_CHANGES = [name for name in _RESERVATIONS.fields if name not in ("order_id", "shortages", "created_at")]
_ON_CONFLICT_UPDATE = (
    f" ON CONFLICT (order_id) DO UPDATE SET {assign_columns(tables.Reservation, _CHANGES, 'excluded')}"
)


async def save_with_new_reservations(uow: UnitOfWork, ledger: StockLedger, reservations: Sequence[Reservation]) -> None:
    """Stock, ledger and new reservations in one statement. A reservation that somebody else made meanwhile ends the
    unit of work.
    """
    await uow.execute(_SAVE, *_list_arguments(ledger, reservations))


async def save_with_locked_reservations(
    uow: UnitOfWork, ledger: StockLedger, reservations: Sequence[Reservation]
) -> None:
    """Stock, ledger and reservations that are locked, in one statement."""
    await uow.execute(_SAVE + _ON_CONFLICT_UPDATE, *_list_arguments(ledger, reservations))


def _list_arguments(ledger: StockLedger, reservations: Sequence[Reservation]) -> list[list[Any]]:
    return [
        *_STOCKS.read_rows(ledger.get_changed_stocks().values()),
        *_MOVEMENTS.read_rows(ledger.movements),
        *_RESERVATIONS.read_rows(reservations),
    ]
