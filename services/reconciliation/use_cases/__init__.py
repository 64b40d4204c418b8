"""The use cases of reconciliation: compare the books, repair what can be repaired, test itself. Here is what they
share.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from caravan.clock import EPOCH, new_id
from caravan.errors import Problem
from caravan.service import ServiceContext
from caravan.status import StatusRequest, build_status_operation
from services.reconciliation.model.books import ORDER_SERVICES
from services.reconciliation.settings import Settings


@dataclass(frozen=True, slots=True)
class Lag:
    """How far behind the services are with their messages, and who is; `is_known`: whether all have said so."""

    behind: timedelta = timedelta()
    reason: str = ""
    is_known: bool = True


@dataclass(slots=True)
class ReconciliationResources:
    """`measure_lag` asks the services; `name` tells this process from others that may compare."""

    measure_lag: Callable[[Any], Awaitable[Lag]]
    name: str = field(default_factory=lambda: str(new_id()))


ReconciliationContext = ServiceContext[Settings, ReconciliationResources]


async def measure_lag(context: ReconciliationContext) -> Lag:
    """By what each service says of the messages that wait for it. One that is away, or has only just begun, may have
    any number of them.
    """
    behind, reason = timedelta(), ""
    for name in ORDER_SERVICES:
        operation = build_status_operation(name)
        try:
            status = await context.call(operation, StatusRequest())
        except Problem as problem:
            return Lag(reason=f"{name} does not answer: {problem.detail}", is_known=False)
        if context.clock() - status.started_at < timedelta(seconds=context.settings.settle_seconds):
            return Lag(reason=f"{name} has only just started", is_known=False)
        for flow in status.subscriptions:
            if not flow.waiting:
                continue
            if flow.oldest_seconds is None:
                return Lag(reason=f"{name} has not measured what waits in {flow.channel}", is_known=False)
            if timedelta(seconds=flow.oldest_seconds) > behind:
                behind, reason = timedelta(seconds=flow.oldest_seconds), f"{name} is behind with {flow.channel}"
    return Lag(behind, reason)


async def choose_watermark(context: ReconciliationContext, last: datetime | None) -> tuple[datetime, str]:
    """What changed after it is not compared now; and why it is older than it had to be."""
    lag = await context.resources.measure_lag(context)
    newest = context.clock() - timedelta(seconds=context.settings.settle_seconds)
    if not lag.is_known:
        return last or EPOCH, lag.reason
    watermark = max(newest - lag.behind, last or EPOCH)
    return min(watermark, newest), lag.reason
