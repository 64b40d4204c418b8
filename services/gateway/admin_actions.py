"""What admins do at the gateway itself, which has no database: identity writes it down before it is done, and what came of it after."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from caravan.database import CONNECTION_LOST
from caravan.errors import Problem
from caravan.telemetry import log
from services.gateway.use_cases import GatewayContext
from services.identity.client import RECORD_ADMIN_ACTION, AdminAction

SHOWN = 300


@asynccontextmanager
async def record_action(context: GatewayContext, action: str, target: str, **details: str | int) -> AsyncIterator[dict[str, str | int]]:
    """Around the deed; what it puts into the dictionary is part of its outcome. What can't be written down is not done."""
    outcome: dict[str, str | int] = {}

    async def note(result: Literal["begun", "done", "refused", "failed"], **more: str | int) -> None:
        await context.calls(RECORD_ADMIN_ACTION, AdminAction(action=action, target=target, result=result, details={**details, **more}))

    async def note_end(result: Literal["done", "refused", "failed"], **more: str | int) -> None:
        try:
            await note(result, **more)
        except (Problem, *CONNECTION_LOST) as error:  # it was done, or not: the client is to be told which
            log.error("what came of a deed is not in the audit log", action=action, target=target, result=result, error=repr(error))

    await note("begun")
    try:
        yield outcome
    except Problem as problem:
        await note_end("refused" if problem.status < 500 else "failed", reason=problem.detail[:SHOWN])
        raise
    except Exception as error:
        await note_end("failed", reason=type(error).__name__)
        raise
    await note_end("done", **outcome)
