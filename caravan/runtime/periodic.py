"""Runs one periodic task of a service: at its interval, when it is nudged, and later and later while it fails.

What is due soon was written lately. So a task whose service has not worked for a while (no request answered, no message handled) looks less often: what was put
off for longer than that comes at most `RESTING_SECONDS` late, and so does what a process left that died.
"""

import asyncio
import contextlib
import time
from typing import Any

from caravan import telemetry
from caravan.database import CONNECTION_LOST
from caravan.service import Context, Periodic
from caravan.telemetry import log

AWAKE_SECONDS = 30.0
"""So long after its last work a service counts as working."""
RESTING_SECONDS = 5.0


def patience(periodic: Periodic, context: Context[Any, Any]) -> float:
    """Seconds until the task looks again by itself."""
    worked = max((database.worked_at for database in context.databases.values()), default=time.monotonic())
    return periodic.seconds if time.monotonic() - worked < AWAKE_SECONDS else max(periodic.seconds, RESTING_SECONDS)


async def repeat(periodic: Periodic, context: Context[Any, Any], nudge: asyncio.Event) -> None:
    telemetry.service_name.set(context.service)
    failures = 0
    while True:
        nudge.clear()
        started = time.monotonic()
        more = False
        try:
            telemetry.traceparent.set(telemetry.new_traceparent())
            more = await periodic.run(context)
            failures = 0
        except CONNECTION_LOST as error:
            failures += 1
            log.warning("periodic work waits", task=periodic.name, error=repr(error))
        except Exception as error:
            failures += 1
            log.error("periodic work failed", task=periodic.name, exc_info=error)
        if more and not failures:
            await asyncio.sleep(max(0.0, started + periodic.linger - time.monotonic()))
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(periodic.seconds * min(2**failures, 16) if failures else patience(periodic, context)):
                await nudge.wait()
