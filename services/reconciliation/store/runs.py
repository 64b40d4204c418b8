"""The queries of comparisons: who runs one now, how far each source has been read, and which orders are watched."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from caravan.database import Database, UnitOfWork
from caravan.database import tables as sql
from caravan.database.conditions import is_among
from caravan.database.query import Query, Upsert
from caravan.database.tables import col, list_columns
from services.reconciliation import tables
from services.reconciliation.store.stock import StockSums

LEASE = timedelta(seconds=60)


@dataclass(slots=True)
class Run:
    id: UUID
    mode: str
    state: str
    requested_by: str
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    watermark: datetime | None
    held_by: str
    orders: int
    products: int
    opened: int
    closed: int
    reason: str


@dataclass(slots=True)
class Progress:
    event_transaction: int
    event_position: int
    statement_time: datetime | None
    statement_key: str
    scanned_at: datetime | None
    full_at: datetime | None
    tested_at: datetime | None
    untested: int


_RUN_ID = col(tables.Run.id)
_RUN = list_columns(tables.Run, Run)
_HELD_UNTIL = col(tables.Progress.held_until)
_NOW: ColumnElement[Any] = bindparam("now", type_=sql.TIMESTAMPTZ)
_INSERT_RUN = Query(
    insert(tables.Run).values(
        id=bindparam("run_id"),
        mode=bindparam("mode"),
        state=bindparam("state"),
        requested_by=bindparam("requested_by"),
        requested_at=bindparam("now"),
        started_at=bindparam("started_at"),
    )
)
_NEXT_REQUESTED = Query(
    select(*_RUN).where(col(tables.Run.state).in_(("requested", "running"))).order_by(_RUN_ID).limit(1), Run
)
_FIND_RUN = Query(select(*_RUN).where(bindparam("run_id") == _RUN_ID), Run)
_AFTER_ID: ColumnElement[Any] = bindparam("after", type_=sql.UUID)
_LIST_RUNS = Query(
    select(*_RUN)
    .where(or_(_AFTER_ID.is_(None), _RUN_ID < _AFTER_ID))
    .order_by(_RUN_ID.desc())
    .limit(bindparam("limit")),
    Run,
)
_LAST = Query(
    select(*_RUN).where(col(tables.Run.state) == "done").order_by(_RUN_ID.desc()).limit(1),
    Run,
)
_SAVE_RUN = Query(
    update(tables.Run)
    .where(bindparam("run_id") == _RUN_ID)
    .values(
        state=bindparam("new_state"),
        started_at=bindparam("started_at"),
        finished_at=bindparam("finished_at"),
        watermark=bindparam("watermark"),
        held_by=bindparam("held_by"),
        orders=bindparam("orders"),
        products=bindparam("products"),
        opened=bindparam("opened"),
        closed=bindparam("closed"),
        reason=bindparam("reason"),
    )
)
_PRUNE = Query(delete(tables.Run).where(bindparam("before") > _RUN_ID, col(tables.Run.state).in_(("done", "failed"))))
_CREATE_PROGRESS = Query(insert(tables.Progress).values(id=1).on_conflict_do_nothing(index_elements=["id"]))
_HOLD = Query(
    update(tables.Progress)
    .where(or_(_HELD_UNTIL.is_(None), _HELD_UNTIL < _NOW, col(tables.Progress.holder) == bindparam("name")))
    .values(holder=bindparam("name"), held_until=bindparam("until"))
)
_RELEASE = Query(
    update(tables.Progress).where(col(tables.Progress.holder) == bindparam("name")).values(held_until=None)
)
_READ_PROGRESS = Query(select(*list_columns(tables.Progress, Progress)), Progress)
_SAVE_PROGRESS = Query(
    update(tables.Progress).values(
        event_transaction=bindparam("event_transaction"),
        event_position=bindparam("event_position"),
        statement_time=bindparam("statement_time"),
        statement_key=bindparam("statement_key"),
        scanned_at=bindparam("scanned_at"),
        full_at=bindparam("full_at"),
        tested_at=bindparam("tested_at"),
        untested=bindparam("untested"),
    )
)
_WATCH: Upsert[UUID] = Upsert(
    tables.WatchedOrder, {"order_id": lambda order_id: order_id}, shared=("noticed_at",), changes=()
)
_PAGE_OF_WATCHED = Query(
    select(col(tables.WatchedOrder.order_id))
    .where(col(tables.WatchedOrder.order_id) > bindparam("after", type_=sql.UUID))
    .order_by(col(tables.WatchedOrder.order_id))
    .limit(bindparam("limit")),
    UUID,
)
_UNWATCH = Query(delete(tables.WatchedOrder).where(is_among(col(tables.WatchedOrder.order_id), "orders")))
_COUNT_WATCHED = Query(select(func.count()).select_from(tables.WatchedOrder), int)
_LIST_CHECKED = Query(
    select(
        col(tables.CheckedStock.sku),
        *list_columns(tables.CheckedStock, StockSums),
    ).where(is_among(col(tables.CheckedStock.sku), "skus")),
    lambda sku, *sums: (sku, StockSums(*sums)),
)
_SAVE_CHECKED: Upsert[tuple[str, StockSums]] = Upsert(
    tables.CheckedStock,
    {
        "sku": lambda item: item[0],
        "version": lambda item: item[1].version,
        "on_hand": lambda item: item[1].on_hand,
        "reserved": lambda item: item[1].reserved,
        "shipped": lambda item: item[1].shipped,
        "received": lambda item: item[1].received,
        "adjusted": lambda item: item[1].adjusted,
    },
)


async def insert_run(
    database: Database | UnitOfWork, run_id: UUID, mode: str, state: str, requested_by: str, now: datetime
) -> None:
    await _INSERT_RUN.execute(
        database,
        run_id=run_id,
        mode=mode,
        state=state,
        requested_by=requested_by,
        now=now,
        started_at=now if state == "running" else None,
    )


async def find_unfinished(database: Database) -> Run | None:
    """The oldest one that was asked for, or that somebody has not finished."""
    return await _NEXT_REQUESTED.fetch_one(database)


async def find_run(database: Database, run_id: UUID) -> Run | None:
    return await _FIND_RUN.fetch_one(database, run_id=run_id)


async def find_last(database: Database) -> Run | None:
    return await _LAST.fetch_one(database)


async def list_runs(database: Database, after: UUID | None, limit: int) -> list[Run]:
    """The newest first."""
    return await _LIST_RUNS.fetch_all(database, after=after, limit=limit)


async def save_run(database: Database, run: Run) -> None:
    await _SAVE_RUN.execute(
        database,
        run_id=run.id,
        new_state=run.state,
        started_at=run.started_at,
        finished_at=run.finished_at,
        watermark=run.watermark,
        held_by=run.held_by,
        orders=run.orders,
        products=run.products,
        opened=run.opened,
        closed=run.closed,
        reason=run.reason,
    )


async def prune_runs(database: Database, before: UUID) -> None:
    await _PRUNE.execute(database, before=before)


async def hold_progress(database: Database, name: str, now: datetime) -> bool:
    """Whether nobody else compares now, and `name` may for the length of a lease; repeated to hold it longer."""
    if await _HOLD.execute(database, now=now, name=name, until=now + LEASE):
        return True
    return bool(await _CREATE_PROGRESS.execute(database)) and await hold_progress(database, name, now)


async def release_progress(database: Database, name: str) -> None:
    await _RELEASE.execute(database, name=name)


async def read_progress(database: Database) -> Progress | None:
    return await _READ_PROGRESS.fetch_one(database)


async def save_progress(database: Database, progress: Progress) -> None:
    await _SAVE_PROGRESS.execute(database, **{name: getattr(progress, name) for name in Progress.__dataclass_fields__})


async def watch_orders(database: Database, order_ids: Collection[UUID], now: datetime) -> None:
    if order_ids:
        await _WATCH.execute(database, list(order_ids), noticed_at=now)


async def unwatch_orders(database: Database, order_ids: Collection[UUID]) -> None:
    if order_ids:
        await _UNWATCH.execute(database, orders=list(order_ids))


async def list_watched(database: Database, after: UUID, limit: int) -> list[UUID]:
    return await _PAGE_OF_WATCHED.fetch_values(database, after=after, limit=limit)


async def count_watched(database: Database) -> int:
    return await _COUNT_WATCHED.fetch_value(database) or 0


async def list_checked(database: Database, skus: Collection[str]) -> dict[str, StockSums]:
    return dict(await _LIST_CHECKED.fetch_all(database, skus=list(skus)))


async def save_checked(database: Database, sums: Mapping[str, StockSums]) -> None:
    if sums:
        await _SAVE_CHECKED.execute(database, list(sums.items()))
