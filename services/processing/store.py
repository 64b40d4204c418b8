"""The queries of sagas, each for a whole batch."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import bindparam, select

from caravan.database import Database, UnitOfWork, VersionConflict
from caravan.database.conditions import is_among
from caravan.database.query import Query, Upsert
from caravan.database.tables import col, list_fields, select_columns
from caravan.messages import Delivery
from services.orders.messages import OrderCreated
from services.processing import tables
from services.processing.model import Saga, Step


class TakenStep(NamedTuple):
    """A step, the id of the message that it followed, and what the saga was like then."""

    step: Step
    cause: str | None
    time: datetime
    stock: str
    money: str
    parcel: str


@dataclass(slots=True)
class SagaRow:
    """A saga and what its commands are made from. All fields but `saga` are fields of `tables.Saga`."""

    saga: Saga
    started_at: datetime
    reminders: int = 0
    order_json: str | None = None
    """OrderCreated as it is stored: most steps neither read nor write it."""
    deadline: datetime | None = None
    """By when an answer is expected; None while none is."""
    cause: UUID | None = None
    actor: str | None = None
    traceparent: str | None = None
    history: str = "[]"
    """The steps taken so far, as `record_steps` writes them."""

    @property
    def command(self) -> Delivery[Any] | None:
        """What the saga follows, without its payload: the order, or its cancellation."""
        if self.cause is None:
            return None
        return Delivery(None, self.cause, str(self.saga.order_id), self.started_at, self.traceparent, self.actor)

    def set_command(self, delivery: Delivery[Any]) -> None:
        self.cause, self.actor, self.traceparent = delivery.id, delivery.actor, delivery.traceparent

    def record_steps(self, steps: Sequence[Step], cause: Delivery[Any] | None, now: datetime) -> None:
        """Write down new steps and what the saga is like after them; a step that is sent again is no new one."""
        if not steps:
            return
        saga, cause_id = self.saga, str(cause.id) if cause else None
        history = orjson.loads(self.history)
        history += [[step, cause_id, now.isoformat(), saga.stock, saga.money, saga.parcel] for step in steps]
        self.history = orjson.dumps(history).decode()

    def list_steps(self) -> list[TakenStep]:
        return [
            TakenStep(step, cause, datetime.fromisoformat(time), stock, money, parcel)
            for step, cause, time, stock, money, parcel in orjson.loads(self.history)
        ]

    def parse_order(self) -> OrderCreated:
        """What the order's commands are made from; only for a saga that knows its order."""
        assert self.order_json is not None
        return OrderCreated.model_validate_json(self.order_json)


_SAGA_FIELDS = [name for name in list_fields(Saga) if name != "has_order"]
_ROW_FIELDS = [name for name in list_fields(SagaRow) if name != "saga"]
_SAGA_SIZE = len(_SAGA_FIELDS)


def _build_row(*values: Any) -> SagaRow:
    row = SagaRow(Saga(*values[:_SAGA_SIZE]), *values[_SAGA_SIZE:])
    row.saga.has_order = row.order_json is not None
    return row


_SELECT = select(*select_columns(tables.Saga, [*_SAGA_FIELDS, *_ROW_FIELDS]))
_LOCK = Query(
    _SELECT.where(is_among(col(tables.Saga.order_id), "orders")).order_by(col(tables.Saga.order_id)).with_for_update(),
    _build_row,
)
_FIND = Query(_SELECT.where(col(tables.Saga.order_id) == bindparam("order_id")), _build_row)
_LOCK_OVERDUE = Query(
    _SELECT.where(~col(tables.Saga.is_closed), col(tables.Saga.deadline) < bindparam("now"))
    .order_by(col(tables.Saga.deadline))
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True),
    _build_row,
)
_SAVE: Upsert[SagaRow] = Upsert(
    tables.Saga,
    {name: attrgetter(f"saga.{name}") for name in _SAGA_FIELDS} | {name: attrgetter(name) for name in _ROW_FIELDS},
    fixed=("started_at",),
    condition="saga.version = excluded.version - 1",
)


async def lock_sagas(uow: UnitOfWork, orders: Collection[UUID]) -> dict[UUID, SagaRow]:
    """The sagas of these orders, locked in the order of their ids so that two batches can't wait for each other."""
    return {row.saga.order_id: row for row in await _LOCK.fetch_all(uow, orders=list(orders))}


async def find_saga(database: Database, order_id: UUID) -> SagaRow | None:
    return await _FIND.fetch_one(database, order_id=order_id)


async def lock_overdue_sagas(uow: UnitOfWork, now: datetime, limit: int) -> list[SagaRow]:
    return await _LOCK_OVERDUE.fetch_all(uow, now=now, limit=limit)


async def save_sagas(uow: UnitOfWork, rows: Collection[SagaRow]) -> None:
    """Write all rows of a batch with one statement. Raises VersionConflict for a saga that somebody else made since it
    was found missing: its first two messages may come at the same moment, and a row that doesn't exist can't be locked.
    """
    written = await _SAVE.execute(uow, rows)
    if written != len(rows):
        raise VersionConflict(
            f"{len(rows) - written} of {len(rows)} sagas were begun by somebody else at the same moment"
        )


async def measure_open_sagas(database: Database, now: datetime) -> dict[str, tuple[int, float]]:
    """How many sagas wait for what, and the age of the oldest in seconds."""
    rows = await database.fetch(
        "SELECT CASE WHEN cancel IS NOT NULL THEN 'undoing' WHEN parcel <> 'none' THEN 'shipping'"
        " WHEN money <> 'none' THEN 'paying' ELSE 'reserving' END AS step,"
        " count(*), extract(epoch FROM $1 - min(started_at))::float AS age FROM saga WHERE NOT closed GROUP BY 1",
        now,
    )
    return {row["step"]: (row["count"], max(0.0, row["age"])) for row in rows}
