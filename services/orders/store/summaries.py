"""The order summaries as the API and other services read them; `projection.py` writes them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, any_, bindparam, or_, select, tuple_

from caravan.database import Database
from caravan.database import tables as sql
from caravan.database.conditions import compare_if_given
from caravan.database.query import Query
from caravan.database.tables import col, list_columns, list_fields, select_columns
from caravan.money import Money
from services.orders.model import Order, OrderStatus
from services.orders.tables import OrderSummary

T = TypeVar("T")

STATE_FIELDS = [name for name in list_fields(Order) if name != "refunded"]
"""What a summary holds of the state of an order; money needs the currency, too."""


class ListedOrder(NamedTuple):
    id: UUID
    user_id: UUID
    total: int
    currency: str
    placed_at: datetime
    status: OrderStatus
    version: int
    updated_at: datetime


class PlacedOrder(NamedTuple):
    """What an order was placed with: nothing changes it."""

    id: UUID
    user_id: UUID
    total: int
    currency: str
    lines: str
    shipping_address: str
    placed_at: datetime


class Summary(NamedTuple):
    placed: PlacedOrder
    order: Order


def build_order(currency: str, refunded: int | None, *state: Any) -> Order:
    """The state in a summary: `currency`, `refunded` and the STATE_FIELDS."""
    return Order(*state, refunded=Money(amount=refunded, currency=currency) if refunded is not None else None)


def _build_summary(refunded: int | None, *values: Any) -> Summary:
    placed = PlacedOrder(*values[: len(PlacedOrder._fields)])
    return Summary(placed, build_order(placed.currency, refunded, *values[len(PlacedOrder._fields) :]))


_AFTER_TIME = bindparam("after_time", type_=sql.TIMESTAMPTZ)
_AFTER_ID = bindparam("after_id", type_=sql.UUID)
_BY_ID = col(OrderSummary.id) == bindparam("order_id")
_SORT_KEY = (col(OrderSummary.placed_at), col(OrderSummary.id))
_FULL = (
    col(OrderSummary.refunded),
    *list_columns(OrderSummary, PlacedOrder),
    *select_columns(OrderSummary, STATE_FIELDS),
)


def _sort_newest_first(statement: Select[Any]) -> Select[Any]:
    ids: ColumnElement[Any] = bindparam("ids", type_=sql.ARRAY(sql.UUID))
    return (
        statement.where(compare_if_given(col(OrderSummary.user_id), "user_id"))
        .where(or_(ids.is_(None), col(OrderSummary.id) == any_(ids)))
        .where(compare_if_given(col(OrderSummary.status), "status"))
        .where(or_(_AFTER_TIME.is_(None), tuple_(*_SORT_KEY) < tuple_(_AFTER_TIME, _AFTER_ID)))
        .order_by(*(column.desc() for column in _SORT_KEY))
        .limit(bindparam("limit"))
    )


_FIND = Query(select(*_FULL).where(_BY_ID), _build_summary)
_FIND_OWNER = Query(select(col(OrderSummary.user_id)).where(_BY_ID), UUID)
_LIST = Query(_sort_newest_first(select(*list_columns(OrderSummary, ListedOrder))), ListedOrder)
_LIST_FULL = Query(_sort_newest_first(select(*_FULL)), _build_summary)


async def find_summary(read: Database, order_id: UUID) -> Summary | None:
    return await _FIND.fetch_one(read, order_id=order_id)


async def find_owner(read: Database, order_id: UUID) -> UUID | None:
    return await _FIND_OWNER.fetch_value(read, order_id=order_id)


class Filter(NamedTuple):
    """Which orders a list holds; None: all of them. `ids`: none but these."""

    user_id: UUID | None = None
    status: str | None = None
    ids: list[UUID] | None = None


async def list_orders(read: Database, selection: Filter, after: Sequence[Any] | None, limit: int) -> list[ListedOrder]:
    """Newest first; `after` is the (placed_at, id) of the last one seen."""
    return await _fetch_page(_LIST, read, selection, after, limit)


async def list_full_orders(read: Database, selection: Filter, after: Sequence[Any] | None, limit: int) -> list[Summary]:
    """The same with their lines and all else."""
    return await _fetch_page(_LIST_FULL, read, selection, after, limit)


async def _fetch_page(
    query: Query[T], read: Database, selection: Filter, after: Sequence[Any] | None, limit: int
) -> list[T]:
    after_time, after_id = after or (None, None)
    return await query.fetch_all(read, **selection._asdict(), after_time=after_time, after_id=after_id, limit=limit)


async def count_by_status(read: Database) -> dict[str, int]:
    return {row[0]: row[1] for row in await read.fetch("SELECT status, count(*) FROM order_summary GROUP BY status")}
