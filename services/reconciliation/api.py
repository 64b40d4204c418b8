"""The HTTP entry point of reconciliation, for admins."""

import csv
import io
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from caravan.audit import record_audit
from caravan.auth import Admin
from caravan.clock import new_id
from caravan.errors import InvalidRequest, NotFound
from caravan.http import (
    SLOW_READ,
    CursorParameter,
    Injected,
    Limit,
    choose_content_type,
    decode_cursor,
    document_headers,
    make_json_response,
    make_page_response,
)
from caravan.money import Money
from caravan.schemas import Page
from caravan.times import Day, parse_time
from services.reconciliation import schemas
from services.reconciliation.model.cases import Case
from services.reconciliation.model.classes import CLASSES, INVARIANTS
from services.reconciliation.store import cases, runs
from services.reconciliation.use_cases import ReconciliationContext, money, repair
from services.reconciliation.use_cases.repair import RepairPlan

router = APIRouter(tags=["reconciliation"])
RUNS_SHOWN = 10
MAX_DAYS = 366
CSV, JSON = "text/csv", "application/json"
CaseId = Annotated[UUID, Path(description="of a case")]


@router.get("/v1/reconciliation", response_model=schemas.Overview)
async def get_reconciliation(context: Injected[ReconciliationContext], _: Admin) -> Response:
    """How far the books are compared, what does not add up by invariant, and the last runs."""
    database = context.database
    last, progress = await runs.find_last(database), await runs.read_progress(database)
    counts = dict.fromkeys(INVARIANTS, 0)
    for name, count in (await cases.count_unsettled(database)).items():
        counts[CLASSES[name].invariant] += count
    return make_json_response(
        schemas.Overview(
            watermark=last.watermark if last else None,
            held_by=last.held_by if last else "",
            watched_orders=await runs.count_watched(database),
            self_test_failures=progress.untested if progress else 0,
            self_tested_at=progress.tested_at if progress else None,
            invariants=[
                schemas.InvariantView(invariant=name, title=title, gaps=counts[name])
                for name, title in INVARIANTS.items()
            ],
            runs=[_to_run_view(run) for run in await runs.list_runs(database, None, RUNS_SHOWN)],
        )
    )


@router.get("/v1/reconciliation/runs", response_model=Page[schemas.RunView])
async def list_runs(
    context: Injected[ReconciliationContext], _: Admin, limit: Limit = 20, cursor: CursorParameter = None
) -> Response:
    """The comparisons of the last 30 days, the newest first."""
    after = decode_cursor(cursor, UUID)
    rows = await runs.list_runs(context.database, after[0] if after else None, limit + 1)
    return make_page_response(rows, limit, _to_run_view, lambda run: (run.id,))


@router.post(
    "/v1/reconciliation/runs",
    status_code=202,
    response_model=schemas.RunView,
    responses=document_headers(202, "Location"),
)
async def request_run(context: Injected[ReconciliationContext], body: schemas.RunRequest, caller: Admin) -> Response:
    """Compare now, as soon as the comparison under way has ended."""
    run_id, now = new_id(), context.clock()
    async with context.database.unit_of_work() as uow:
        await runs.insert_run(uow, run_id, body.mode, "requested", caller.audit_name, now)
        record_audit(uow, "reconciliation.run", f"run:{run_id}", actor=caller.audit_name, mode=body.mode)
        uow.run_after_commit(lambda: context.wake("compare"))
    run = await runs.find_run(context.database, run_id)
    assert run is not None
    headers = {"Location": f"/v1/reconciliation/runs/{run_id}"}
    return make_json_response(_to_run_view(run), 202, headers)


@router.get("/v1/reconciliation/runs/{run_id}", response_model=schemas.RunView)
async def get_run(context: Injected[ReconciliationContext], run_id: UUID, _: Admin) -> Response:
    """One comparison, and how far it is."""
    run = await runs.find_run(context.database, run_id)
    if run is None:
        raise NotFound(f"no run {run_id}; GET /v1/reconciliation/runs lists them")
    return make_json_response(_to_run_view(run))


@router.get("/v1/reconciliation/cases", response_model=Page[schemas.CaseView])
async def list_cases(
    context: Injected[ReconciliationContext],
    _: Admin,
    state: schemas.CaseState | None = None,
    gap: Annotated[str | None, Query(description="the class", json_schema_extra={"enum": [*CLASSES]})] = None,
    order_id: UUID | None = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Response:
    """What does not add up, the newest first."""
    if gap is not None and gap not in CLASSES:
        raise InvalidRequest(
            "there is no such class", errors=[{"field": "query.gap", "rule": f"one of {', '.join(CLASSES)}"}]
        )
    position = decode_cursor(cursor, parse_time, UUID)
    after: tuple[datetime, UUID] | None = (position[0], position[1]) if position else None
    rows = await cases.list_cases(context.database, state, gap, order_id, after, limit + 1)
    limits = context.settings.four_eyes_amount
    return make_page_response(
        rows, limit, lambda case: _to_case_view(case, limits), lambda case: (case.opened_at, case.id)
    )


@router.get("/v1/reconciliation/cases/{case_id}", response_model=schemas.CaseDocument)
async def get_case(context: Injected[ReconciliationContext], case_id: CaseId, _: Admin) -> Response:
    """A case with all that became of it."""
    return await _make_document(context, case_id)


@router.post("/v1/reconciliation/cases/{case_id}/repair", response_model=schemas.PlanView)
async def repair_case(
    context: Injected[ReconciliationContext], case_id: CaseId, body: schemas.RepairRequest, caller: Admin
) -> Response:
    """Send the one command that corrects it, or wait for another admin's approval where much money moves. A dry run,
    which is the default, only says which.
    """
    reason = body.reason or "asked for"
    plan = await repair.repair_case(context, case_id, caller.audit_name, reason, is_dry_run=body.dry_run)
    return make_json_response(_to_plan_view(plan))


@router.post("/v1/reconciliation/cases/{case_id}/approve", response_model=schemas.PlanView)
async def approve_case(
    context: Injected[ReconciliationContext], case_id: CaseId, body: schemas.ApprovalRequest, caller: Admin
) -> Response:
    """Approve a repair that another admin has asked for."""
    plan = await repair.approve_case(context, case_id, caller.audit_name, body.reason or "approved")
    return make_json_response(_to_plan_view(plan))


@router.post("/v1/reconciliation/cases/{case_id}/dismiss", response_model=schemas.CaseDocument)
async def dismiss_case(
    context: Injected[ReconciliationContext], case_id: CaseId, body: schemas.DismissalRequest, caller: Admin
) -> Response:
    """Let it be, for a reason. The same gap opens no other case."""
    await repair.dismiss_case(context, case_id, caller.audit_name, body.reason)
    return await _make_document(context, case_id)


@router.post("/v1/reconciliation/repairs", response_model=schemas.RepairsView)
async def repair_open_cases(
    context: Injected[ReconciliationContext], body: schemas.RepairsRequest, caller: Admin
) -> Response:
    """Repair all open cases that a command corrects, within the bounds of one run."""
    plans = await repair.repair_open_cases(context, caller.audit_name, is_dry_run=body.dry_run)
    return make_json_response(schemas.RepairsView(dry_run=body.dry_run, items=[_to_plan_view(plan) for plan in plans]))


@router.get(
    "/v1/reconciliation/money",
    response_model=schemas.MoneyReport,
    openapi_extra=SLOW_READ,
    responses=document_headers(
        200,
        "Vary",
        "Content-Disposition",
        description="the report",
        content={CSV: {"schema": {"type": "string"}}},
    ),
)
async def report_money(
    context: Injected[ReconciliationContext],
    request: Request,
    _: Admin,
    first: Annotated[Day | None, Query(alias="from", description="first day (UTC); by default 30 days before")] = None,
    to: Annotated[Day | None, Query(description="last day (UTC), included; by default today")] = None,
    format: Annotated[Literal["json", "csv"] | None, Query(description="also by `Accept: text/csv`")] = None,
) -> Response:
    """Money in, and money explained: what the provider captured and gave back by day and currency, and how much of it
    an open case questions.
    """
    last = to or context.clock().date()
    begin = first or last - timedelta(days=30)
    _check_days(begin, last)
    report = await money.report_money(context, begin, last)
    form = format or {JSON: "json", CSV: "csv"}[choose_content_type(request.headers.get("accept", ""), JSON, CSV)]
    if form == "json":
        return make_json_response(report, headers={"Vary": "Accept"})
    headers = {"Vary": "Accept", "Content-Disposition": f'attachment; filename="money-{begin}-{last}.csv"'}
    return Response(_format_csv(schemas.MoneyRow, report.rows), headers=headers, media_type=CSV)


def _check_days(first: date, last: date) -> None:
    if not timedelta() <= last - first < timedelta(days=MAX_DAYS):
        rule = f"at most {MAX_DAYS} days up to `to`"
        raise InvalidRequest(f"`from` must lie {rule}", errors=[{"field": "query.from", "rule": rule}])


def _format_csv(row_type: type[BaseModel], rows: list[Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(row_type.model_fields)
    writer.writerows(row.model_dump(mode="json").values() for row in rows)
    return text.getvalue()


async def _make_document(context: ReconciliationContext, case_id: UUID) -> Response:
    case = await repair.get_case(context, case_id)
    view = _to_case_view(case, context.settings.four_eyes_amount)
    steps = await cases.list_steps(context.database, case_id)
    history = [schemas.StepView(state=s.state, actor=s.actor, reason=s.reason, time=s.time) for s in steps]
    return make_json_response(schemas.CaseDocument(**view.model_dump(), history=history))


def _to_run_view(run: runs.Run) -> schemas.RunView:
    return schemas.RunView.model_validate(run, from_attributes=True)


def _to_money(case: Case) -> Money | None:
    return Money(amount=case.amount, currency=case.currency) if case.currency else None


def _to_case_view(case: Case, four_eyes_amount: int) -> schemas.CaseView:
    declared = case.declared
    return schemas.CaseView(
        id=case.id,
        gap=case.gap_class,
        title=declared.title,
        invariant=declared.invariant,
        severity=declared.severity,
        subject=case.subject,
        order_id=case.order_id,
        amount=_to_money(case),
        details=orjson.loads(case.details),
        state=case.state,
        action=declared.action,
        repair=declared.repair,
        needs_approval=case.needs_second_person(four_eyes_amount),
        proposed_by=case.proposed_by,
        opened_at=case.opened_at,
        seen_at=case.seen_at,
        changed_at=case.changed_at,
    )


def _to_plan_view(plan: RepairPlan) -> schemas.PlanView:
    case = plan.case
    return schemas.PlanView(
        case_id=case.id,
        gap=case.gap_class,
        subject=case.subject,
        amount=_to_money(case),
        repair=plan.repair,
        outcome=plan.outcome,
    )
