"""What leaves no trace in a database of its own: what admins do elsewhere, and who was refused at the gateway."""

from typing import Any

from caravan import refusals as refused
from caravan.audit import audit
from caravan.client import verify_caller_behind
from services.identity.client import AdminAction, AuditRecorded, Refusals
from services.identity.use_cases.keys import Identity


async def record_admin_action(context: Identity, action: AdminAction) -> AuditRecorded:
    caller = await verify_caller_behind(context.verifier, "admin")
    details: dict[str, Any] = dict(action.details)
    async with context.database.work() as work:
        audit(work, action.action, action.target, actor=caller.name, result=action.result, **details)
    return AuditRecorded()


async def record_refusals(context: Identity, refusals: Refusals) -> AuditRecorded:
    async with context.database.work() as work:
        refused.record_refusals(work, refusals.items)
    return AuditRecorded()
