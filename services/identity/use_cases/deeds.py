"""What leaves no trace in a database of its own: what admins do elsewhere, and who was refused at the gateway."""

from typing import Any

from caravan.audit import audit
from caravan.client import verify_caller_behind
from services.identity.client import Deed, DeedRecorded, Refusals
from services.identity.use_cases.keys import Identity


async def record_deed(context: Identity, deed: Deed) -> DeedRecorded:
    caller = await verify_caller_behind(context.verifier, "admin")
    details: dict[str, Any] = dict(deed.details)
    async with context.database.work() as work:
        audit(work, deed.action, deed.target, actor=caller.name, result=deed.result, **details)
    return DeedRecorded()


async def record_refusals(context: Identity, refusals: Refusals) -> DeedRecorded:
    async with context.database.work() as work:
        for refused in refusals.items:
            details = refused.model_dump(exclude={"actor", "operation"})
            audit(work, "request.refused", f"operation:{refused.operation}", actor=refused.actor, result="refused", **details)
    return DeedRecorded()
