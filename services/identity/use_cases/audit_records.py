"""Audit records for the gateway, which has no database: what admins do there, personal data that staff asked to see,
and refused requests.
"""

from typing import Any

from caravan import refusals as refused
from caravan.audit import record_audit
from caravan.client import verify_forwarded_caller
from services.identity.client import AdminAction, AuditReceipt, Disclosure, Refusals
from services.identity.use_cases.keys import IdentityContext


async def record_admin_action(context: IdentityContext, action: AdminAction) -> AuditReceipt:
    caller = await verify_forwarded_caller(context.verifier, "admin")
    details: dict[str, Any] = dict(action.details)
    async with context.database.unit_of_work() as uow:
        record_audit(uow, action.action, action.target, actor=caller.audit_name, result=action.result, **details)
    return AuditReceipt()


async def record_disclosure(context: IdentityContext, disclosure: Disclosure) -> AuditReceipt:
    caller = await verify_forwarded_caller(context.verifier, "staff")
    async with context.database.unit_of_work() as uow:
        record_audit(uow, "personal_data.shown", disclosure.subject, actor=caller.audit_name, result="done")
    return AuditReceipt()


async def record_refusals(context: IdentityContext, refusals: Refusals) -> AuditReceipt:
    async with context.database.unit_of_work() as uow:
        refused.record_refusals(uow, refusals.items)
    return AuditReceipt()
