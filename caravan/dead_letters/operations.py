"""The operations by which the gateway reaches a service's dead letters: for admins only, recorded in the audit log
before and after.
"""

from typing import Any

from caravan.audit import record_audit
from caravan.auth import Caller
from caravan.client import BoundOperation, verify_forwarded_caller
from caravan.dead_letters.schemas import (
    ActionResult,
    DeadLetterPage,
    DeadLetterView,
    DiscardRequest,
    ListRequest,
    Selection,
    ShowRequest,
    build_discard_operation,
    build_list_operation,
    build_redrive_operation,
    build_show_operation,
)
from caravan.dead_letters.service import ActionRecorder, DeadLetterService


def build_operations(dead_letters: DeadLetterService, service: str) -> tuple[BoundOperation, ...]:
    """What every service answers about its own failures, to admins only."""

    async def list_dead_letters(context: Any, request: ListRequest) -> DeadLetterPage:
        await _require_admin(context)
        return await dead_letters.get_page(request)

    async def show_dead_letter(context: Any, request: ShowRequest) -> DeadLetterView:
        await _require_admin(context)
        return await dead_letters.get_dead_letter(request)

    async def redrive_dead_letters(context: Any, request: Selection) -> ActionResult:
        return await dead_letters.redrive(
            request, _make_recorder(context, await _require_admin(context), "failures.redrive")
        )

    async def discard_dead_letters(context: Any, request: DiscardRequest) -> ActionResult:
        return await dead_letters.discard(
            request, _make_recorder(context, await _require_admin(context), "failures.discard")
        )

    return (
        build_list_operation(service).bind(list_dead_letters),
        build_show_operation(service).bind(show_dead_letter),
        build_redrive_operation(service).bind(redrive_dead_letters),
        build_discard_operation(service).bind(discard_dead_letters),
    )


async def _require_admin(context: Any) -> Caller:
    return await verify_forwarded_caller(context.verifier, "admin")


def _make_recorder(context: Any, caller: Caller, action: str) -> ActionRecorder:
    async def record_action(result: str, selection: Selection, **details: Any) -> None:
        selection_fields = selection.model_dump(exclude_none=True, exclude={"ids", "dry_run"})
        async with context.database.unit_of_work() as uow:
            record_audit(
                uow,
                action,
                f"failures:{context.service}",
                actor=caller.audit_name,
                result=result,
                **details,
                **selection_fields,
            )

    return record_action
