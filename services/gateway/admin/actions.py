"""Runs an administrator's action and has identity record it, since the gateway has no database: before it begins, and
afterwards with its result.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from caravan.database import CONNECTION_LOST
from caravan.errors import Problem
from caravan.telemetry import log
from services.gateway.use_cases import GatewayContext
from services.identity.client import RECORD_ADMIN_ACTION, AdminAction

MAX_REASON_LENGTH = 300


@asynccontextmanager
async def record_action(
    context: GatewayContext, action: str, target: str, **details: str | int
) -> AsyncIterator[dict[str, str | int]]:
    """Around an action. What it puts into the dictionary is recorded with its result. An action that can't be recorded
    is not begun.
    """
    outcome: dict[str, str | int] = {}

    async def record_result(result: Literal["begun", "done", "refused", "failed"], **more: str | int) -> None:
        await context.call(
            RECORD_ADMIN_ACTION, AdminAction(action=action, target=target, result=result, details={**details, **more})
        )

    async def record_end(result: Literal["done", "refused", "failed"], **more: str | int) -> None:
        try:
            await record_result(result, **more)
        except (Problem, *CONNECTION_LOST) as error:  # the client must still get the result of the action
            log.error(
                "the result of an action is not in the audit log",
                action=action,
                target=target,
                result=result,
                error=repr(error),
            )

    await record_result("begun")
    try:
        yield outcome
    except Problem as problem:
        await record_end("refused" if problem.status < 500 else "failed", reason=problem.detail[:MAX_REASON_LENGTH])
        raise
    except Exception as error:
        await record_end("failed", reason=type(error).__name__)
        raise
    await record_end("done", **outcome)
