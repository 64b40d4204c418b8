"""Runs one periodic task of a service: at its interval, when it is woken, and less and less often while it fails.

What is due soon was written lately. So a task whose service has been idle for a while (no request answered, no message
handled) polls less often: what was postponed for longer comes at most `RESTING_SECONDS` late, and so does what a dead
process left.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

from opentelemetry.trace import SpanKind

from caravan import fault_flags, telemetry
from caravan.backoff import compute_exponential_backoff
from caravan.concurrency import raise_if_cancelled
from caravan.database import CONNECTION_LOST
from caravan.outbox import OutboxRelay
from caravan.pacing import compute_rest
from caravan.service import PeriodicTask, ServiceContext
from caravan.telemetry import log

ACTIVE_SECONDS = 30.0
"""So long after its last work a service counts as working."""
_IDLE_INTERVAL_SECONDS = 5.0
_PURGE_SECONDS = 60.0


def choose_interval(task: PeriodicTask, context: ServiceContext[Any, Any]) -> float:
    """Seconds until the task looks again by itself."""
    last_active_at = max((database.last_active_at for database in context.databases.values()), default=time.monotonic())
    return (
        task.seconds
        if time.monotonic() - last_active_at < ACTIVE_SECONDS
        else max(task.seconds, _IDLE_INTERVAL_SECONDS)
    )


async def run_periodically(task: PeriodicTask, context: ServiceContext[Any, Any], wake: asyncio.Event) -> None:
    telemetry.service_name.set(context.service)
    failures = 0
    while True:
        if fault_flags.active:
            fault_flags.fail(fault_flags.TASK_FAILING, f"{context.service}.{task.name}")
        wake.clear()
        started = time.monotonic()
        has_more = False
        try:
            telemetry.traceparent.set(telemetry.new_traceparent())
            with telemetry.start_span(f"run {task.name}", SpanKind.INTERNAL, is_quiet=True):
                has_more = await task.run(context)
            failures = 0
        except CONNECTION_LOST as error:
            failures += 1
            log.warning("periodic task is retrying", task=task.name, error=repr(error))
        except Exception as error:
            raise_if_cancelled(error)
            failures += 1
            log.error("periodic task failed", task=task.name, exc_info=error)
        if has_more and not failures:
            await asyncio.sleep(compute_rest(task.linger, time.monotonic() - started))
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(
                compute_exponential_backoff(failures, task.seconds, 16 * task.seconds)
                if failures
                else choose_interval(task, context)
            ):
                await wake.wait()


async def purge_periodically(relays: Sequence[OutboxRelay]) -> None:
    """Remove what has expired from each database that has the kernel's tables: those with a relay."""
    while True:
        await asyncio.sleep(_PURGE_SECONDS)
        with contextlib.suppress(*CONNECTION_LOST):
            for relay in relays:
                await relay.database.purge_expired()
