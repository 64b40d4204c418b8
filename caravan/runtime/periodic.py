"""Runs one periodic task of a service: at its interval, when it is nudged, and later and later while it fails."""

import asyncio
import contextlib
from typing import Any

from caravan import telemetry
from caravan.database import CONNECTION_LOST
from caravan.service import Context, Periodic
from caravan.telemetry import log


async def repeat(periodic: Periodic, context: Context[Any, Any], nudge: asyncio.Event) -> None:
    telemetry.service_name.set(context.service)
    failures = 0
    while True:
        nudge.clear()
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
            await asyncio.sleep(0)
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(periodic.seconds * min(2**failures, 16) if failures else periodic.seconds):
                await nudge.wait()
