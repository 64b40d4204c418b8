"""Repairs a gap by one command to the service whose books it is, as that service takes it from anybody: nothing is
written into another's tables.

The state of the case and the command commit together, and the command's id is made of the case and its version. A
process that is killed has sent nothing, or it has sent the one command; repeated, the service's inbox drops it, and the
commands themselves happen once for each order.
"""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from caravan import failpoint
from caravan.audit import record_audit
from caravan.clock import EPOCH, new_id
from caravan.database import UnitOfWork
from caravan.errors import Conflict, NotFound
from services.inventory.messages import RELEASE_STOCK, ReleaseStock
from services.payments.messages import REFUND_PAYMENT, RefundPayment
from services.reconciliation.metrics import REPAIRS
from services.reconciliation.model.cases import Case
from services.reconciliation.model.classes import CLASSES, Repair
from services.reconciliation.store import cases, runs
from services.reconciliation.store.books import open_books
from services.reconciliation.use_cases import ReconciliationContext
from services.reconciliation.use_cases.compare_orders import compare_orders


class GapGone(Conflict):
    """The books agree by now, or move again: nothing is to be repaired."""

    title, slug = "The gap is not there any more", "gap-gone"


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What a repair would do. `outcome`: what became of it, or would."""

    case: Case
    repair: Repair | None
    outcome: str


REPAIRABLE = [each.name for each in CLASSES.values() if each.repair]


async def get_case(context: ReconciliationContext, case_id: UUID) -> Case:
    case = await cases.find_case(context.database, case_id)
    if case is None:
        raise NotFound(f"no case {case_id}; GET /v1/reconciliation/cases lists them")
    return case


async def repair_case(
    context: ReconciliationContext, case_id: UUID, actor: str, reason: str, *, is_dry_run: bool
) -> RepairPlan:
    """Repair, or ask for another admin's approval. A dry run says which, and changes nothing."""
    case = await get_case(context, case_id)
    case.request_repair(actor, context.settings.four_eyes_amount)
    await _check_still_there(context, case)
    if is_dry_run:
        return RepairPlan(case, case.declared.repair, f"would be {case.state}")
    async with context.database.unit_of_work() as uow:
        case = await _lock(uow, case_id)
        case.request_repair(actor, context.settings.four_eyes_amount)
        await _move(context, uow, case, actor, "reconciliation.repair", reason)
    failpoint.hit("reconciliation.repair_after_commit")
    return RepairPlan(case, case.declared.repair, case.state)


async def approve_case(context: ReconciliationContext, case_id: UUID, actor: str, reason: str) -> RepairPlan:
    case = await get_case(context, case_id)
    case.approve(actor)
    await _check_still_there(context, case)
    async with context.database.unit_of_work() as uow:
        case = await _lock(uow, case_id)
        case.approve(actor)
        await _move(context, uow, case, actor, "reconciliation.approve", reason)
    failpoint.hit("reconciliation.repair_after_commit")
    return RepairPlan(case, case.declared.repair, case.state)


async def dismiss_case(context: ReconciliationContext, case_id: UUID, actor: str, reason: str) -> Case:
    """Somebody has looked at it and lets it be, or has mended it elsewhere. The same gap opens no other case."""
    async with context.database.unit_of_work() as uow:
        case = await _lock(uow, case_id)
        case.dismiss()
        await cases.save_move(uow, case, actor, reason, context.clock())
        _record(uow, case, actor, "reconciliation.dismiss", reason)
    return case


async def repair_open_cases(context: ReconciliationContext, actor: str, *, is_dry_run: bool) -> list[RepairPlan]:
    """Repair what may be repaired, the oldest first, within the bounds of one run."""
    settings = context.settings
    left = settings.repairs_per_run
    money_left: dict[str, int] = {}
    plans: list[RepairPlan] = []
    for case in await cases.list_repairable(context.database, REPAIRABLE, 10 * settings.repairs_per_run):
        money = money_left.get(case.currency, settings.repair_amount_per_run)
        if left == 0 or case.amount > money:
            plans.append(RepairPlan(case, case.declared.repair, "over the bounds of one run"))
            continue
        try:
            plan = await repair_case(context, case.id, actor, "with all that can be", is_dry_run=is_dry_run)
        except Conflict as refusal:
            plans.append(RepairPlan(case, case.declared.repair, refusal.detail))
            continue
        plans.append(plan)
        left, money_left[case.currency] = left - 1, money - case.amount
    return plans


async def _lock(uow: UnitOfWork, case_id: UUID) -> Case:
    case = await cases.lock_case(uow, case_id)
    if case is None:
        raise NotFound(f"no case {case_id}; GET /v1/reconciliation/cases lists them")
    return case


async def _check_still_there(context: ReconciliationContext, case: Case) -> None:
    """The books as they are now, the provider's asked by key: what mended itself meanwhile must not be mended twice."""
    assert context.connect_to_books is not None and case.order_id is not None
    last = await runs.find_last(context.database)
    watermark = last.watermark if last and last.watermark else EPOCH
    async with open_books(context.connect_to_books) as books:
        result = await compare_orders(
            context, books, [case.order_id], watermark, last.id if last else new_id(), has_fresh_statement=False
        )
    if not any(gap.gap_class == case.gap_class and gap.amount == case.amount for gap in result.gaps):
        raise GapGone("the books agree by now, or move again; the next comparison closes the case")


async def _move(
    context: ReconciliationContext, uow: UnitOfWork, case: Case, actor: str, action: str, reason: str
) -> None:
    await cases.save_move(uow, case, actor, reason, context.clock())
    _record(uow, case, actor, action, reason)
    if case.state == "repairing":
        _send_command(uow, case)
        assert case.declared.repair is not None
        uow.run_after_commit(REPAIRS.labels(case.declared.repair).inc)
    failpoint.hit("reconciliation.repair_before_commit")


def _send_command(uow: UnitOfWork, case: Case) -> None:
    assert case.order_id is not None
    reason, message_id = f"reconciliation case {case.id}", derive_message_id(case.id, case.version)
    match case.declared.repair:
        case "refund_payment":
            command = RefundPayment(order_id=case.order_id, reason=reason)
            uow.emit(REFUND_PAYMENT, command, key=case.order_id, message_id=message_id)
        case "release_stock":
            release = ReleaseStock(order_id=case.order_id, reason=reason)
            uow.emit(RELEASE_STOCK, release, key=case.order_id, message_id=message_id)


def derive_message_id(case_id: UUID, version: int) -> UUID:
    """The same for the same step of the same case."""
    return UUID(bytes=hashlib.sha256(case_id.bytes + version.to_bytes(4)).digest()[:16], version=5)


def _record(uow: UnitOfWork, case: Case, actor: str, action: str, reason: str) -> None:
    record_audit(
        uow,
        action,
        f"case:{case.id}",
        actor=actor,
        gap=case.gap_class,
        subject=case.subject,
        state=case.state,
        amount={"amount": case.amount, "currency": case.currency} if case.currency else None,
        reason=reason,
    )
