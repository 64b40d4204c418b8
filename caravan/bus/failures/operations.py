"""How a service's failure desk is asked: by admins only, and what they do goes to the audit log: before it is done, and what came of it."""

from collections.abc import Awaitable, Callable
from typing import Any

from caravan.audit import audit
from caravan.auth import Caller
from caravan.bus.failures import Desk, Record
from caravan.bus.failures.shapes import (
    DiscardRequest,
    Done,
    Failure,
    Listed,
    ListRequest,
    Selection,
    ShowRequest,
    discarding,
    listing,
    redriving,
    showing,
)
from caravan.client import Operation, verify_caller_behind


def operations(desk: Desk, service: str) -> dict[Operation[Any, Any], Callable[[Any, Any], Awaitable[Any]]]:
    """What every service answers about its own failures, to admins only."""

    async def list_failures(context: Any, request: ListRequest) -> Listed:
        await _admin(context)
        return await desk.page(request)

    async def show_failure(context: Any, request: ShowRequest) -> Failure:
        await _admin(context)
        return await desk.show(request)

    async def redrive_failures(context: Any, request: Selection) -> Done:
        return await desk.redrive(request, _recorder(context, await _admin(context), "failures.redrive"))

    async def discard_failures(context: Any, request: DiscardRequest) -> Done:
        return await desk.discard(request, _recorder(context, await _admin(context), "failures.discard"))

    return {
        listing(service): list_failures,
        showing(service): show_failure,
        redriving(service): redrive_failures,
        discarding(service): discard_failures,
    }


async def _admin(context: Any) -> Caller:
    return await verify_caller_behind(context.verifier, "admin")


def _recorder(context: Any, caller: Caller, action: str) -> Record:
    async def record(result: str, selection: Selection, **details: Any) -> None:
        asked = selection.model_dump(exclude_none=True, exclude={"ids", "dry_run"})
        async with context.database.work() as work:
            audit(work, action, f"failures:{context.service}", actor=caller.name, result=result, **details, **asked)

    return record
