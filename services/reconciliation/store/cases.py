"""The queries of cases and of what became of them."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, bindparam, func, or_, select, tuple_, update

from caravan.clock import new_id
from caravan.database import Database, UnitOfWork
from caravan.database import tables as sql
from caravan.database.conditions import compare_if_given, is_among
from caravan.database.query import Query, Upsert
from caravan.database.tables import col, list_columns
from services.reconciliation import tables
from services.reconciliation.model.cases import UNSETTLED, Case, CaseState, describe_step
from services.reconciliation.model.classes import Gap


class Step(NamedTuple):
    version: int
    state: CaseState
    actor: str
    reason: str
    time: datetime


class CaseRef(NamedTuple):
    id: UUID
    gap_class: str
    subject: str
    order_id: UUID | None
    state: CaseState
    version: int
    changed_at: datetime


_ID = col(tables.Case.id)
_STATE = col(tables.Case.state)
_IS_UNSETTLED = _STATE.in_(UNSETTLED)
_COLUMNS = list_columns(tables.Case, Case)
_FIND = Query(select(*_COLUMNS).where(bindparam("case_id") == _ID), Case)
_LOCK = Query(select(*_COLUMNS).where(bindparam("case_id") == _ID).with_for_update(), Case)
_AFTER: ColumnElement[Any] = bindparam("after_time", type_=sql.TIMESTAMPTZ)
_LIST = Query(
    select(*_COLUMNS)
    .where(compare_if_given(_STATE, "state"))
    .where(compare_if_given(col(tables.Case.gap_class), "gap_class"))
    .where(compare_if_given(col(tables.Case.order_id), "order_id"))
    .where(
        or_(
            _AFTER.is_(None),
            tuple_(col(tables.Case.opened_at), _ID) < tuple_(_AFTER, bindparam("after_id", type_=sql.UUID)),
        )
    )
    .order_by(col(tables.Case.opened_at).desc(), _ID.desc())
    .limit(bindparam("limit")),
    Case,
)
_REPAIRABLE = Query(
    select(*_COLUMNS)
    .where(_STATE == "open", is_among(col(tables.Case.gap_class), "classes"))
    .order_by(col(tables.Case.opened_at), _ID)
    .limit(bindparam("limit")),
    Case,
)
_UNSETTLED = Query(select(*list_columns(tables.Case, CaseRef)).where(_IS_UNSETTLED), CaseRef)
_DISMISSED = Query(
    select(col(tables.Case.gap_class), col(tables.Case.subject), col(tables.Case.amount)).where(
        _STATE == "dismissed", is_among(col(tables.Case.subject), "subjects")
    ),
    lambda *values: values,
)
_COUNT = Query(
    select(col(tables.Case.gap_class), func.count()).where(_IS_UNSETTLED).group_by(col(tables.Case.gap_class)),
    lambda *values: values,
)
_STEPS = Query(
    select(*list_columns(tables.CaseStep, Step))
    .where(col(tables.CaseStep.case_id) == bindparam("case_id"))
    .order_by(col(tables.CaseStep.version)),
    Step,
)
_SAVE = Query(
    update(tables.Case)
    .where(bindparam("case_id") == _ID)
    .values(
        state=bindparam("new_state"),
        version=bindparam("new_version"),
        proposed_by=bindparam("proposer"),
        changed_at=bindparam("now"),
    )
)
_SEE = Query(update(tables.Case).where(is_among(_ID, "cases")).values(seen_at=bindparam("now")))
_STEP: Upsert[tuple[UUID, int, str, str, str, datetime]] = Upsert(
    tables.CaseStep,
    {
        "case_id": lambda step: step[0],
        "version": lambda step: step[1],
        "state": lambda step: step[2],
        "actor": lambda step: step[3],
        "reason": lambda step: step[4],
        "time": lambda step: step[5],
    },
    changes=(),
)
_OPEN = """
    WITH opened AS (
        INSERT INTO gap_case (id, gap_class, subject, order_id, amount, currency, details, state, version,
            opened_at, seen_at, changed_at)
        SELECT i, c, s, o, a, cur, d::json, 'open', 1, $8, $8, $8
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::text[], $7::text[])
            AS t(i, c, s, o, a, cur, d)
        ON CONFLICT (gap_class, subject) WHERE state IN ('open', 'awaiting_approval', 'repairing') DO NOTHING
        RETURNING id
    )
    INSERT INTO case_step (case_id, version, state, actor, reason, time)
    SELECT id, 1, 'open', 'reconciliation', 'found', $8 FROM opened RETURNING case_id
"""
_MOVE = """
    WITH moved AS (
        UPDATE gap_case c SET state = t.state, version = c.version + 1, changed_at = $4
        FROM unnest($1::uuid[], $2::int[], $3::text[]) AS t(id, version, state)
        WHERE c.id = t.id AND c.version = t.version RETURNING c.id, c.version, c.state
    )
    INSERT INTO case_step (case_id, version, state, actor, reason, time)
    SELECT id, version, state, 'reconciliation', $5, $4 FROM moved RETURNING case_id
"""


async def open_cases(database: Database | UnitOfWork, gaps: Sequence[Gap], now: datetime) -> int:
    """A case for each gap that has none; the number of new ones."""
    rows = await database.fetch(
        _OPEN,
        [new_id() for _ in gaps],
        [gap.gap_class for gap in gaps],
        [gap.subject for gap in gaps],
        [gap.order_id for gap in gaps],
        [gap.amount for gap in gaps],
        [gap.currency for gap in gaps],
        [orjson.dumps(describe_step(gap), default=str).decode() for gap in gaps],
        now,
    )
    return len(rows)


async def move_cases(database: Database, moves: Sequence[tuple[CaseRef, CaseState]], reason: str, now: datetime) -> int:
    """Cases that nobody has changed meanwhile; the number that moved."""
    rows = await database.fetch(
        _MOVE,
        [case.id for case, _ in moves],
        [case.version for case, _ in moves],
        [state for _, state in moves],
        now,
        reason,
    )
    return len(rows)


async def list_unsettled(database: Database) -> list[CaseRef]:
    return await _UNSETTLED.fetch_all(database)


async def mark_seen(database: Database, case_ids: Collection[UUID], now: datetime) -> None:
    await _SEE.execute(database, cases=list(case_ids), now=now)


async def list_dismissed(database: Database, subjects: Collection[str]) -> set[tuple[str, str, int]]:
    """Class, subject and amount of what somebody has looked at and let be."""
    return set(await _DISMISSED.fetch_all(database, subjects=list(subjects)))


async def count_unsettled(database: Database) -> dict[str, int]:
    """By class."""
    return dict(await _COUNT.fetch_all(database))


async def list_cases(
    database: Database,
    state: str | None,
    gap_class: str | None,
    order_id: UUID | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Case]:
    """The newest first."""
    return await _LIST.fetch_all(
        database,
        state=state,
        gap_class=gap_class,
        order_id=order_id,
        after_time=after[0] if after else None,
        after_id=after[1] if after else None,
        limit=limit,
    )


async def list_repairable(database: Database, classes: Collection[str], limit: int) -> list[Case]:
    """Open ones of these classes, the oldest first."""
    return await _REPAIRABLE.fetch_all(database, classes=list(classes), limit=limit)


async def find_case(database: Database, case_id: UUID) -> Case | None:
    return await _FIND.fetch_one(database, case_id=case_id)


async def lock_case(uow: UnitOfWork, case_id: UUID) -> Case | None:
    return await _LOCK.fetch_one(uow, case_id=case_id)


async def list_steps(database: Database, case_id: UUID) -> list[Step]:
    return await _STEPS.fetch_all(database, case_id=case_id)


async def save_move(uow: UnitOfWork, case: Case, actor: str, reason: str, now: datetime) -> None:
    """Write the state that a locked case has got, as its next step."""
    case.version, case.changed_at = case.version + 1, now
    await _SAVE.execute(
        uow, case_id=case.id, new_state=case.state, new_version=case.version, proposer=case.proposed_by, now=now
    )
    await _STEP.execute(uow, [(case.id, case.version, case.state, actor, reason, now)])
