"""Restarts a task that has to run as long as the process, and logs that it failed."""

import asyncio
from collections.abc import Callable

from caravan.backoff import compute_backoff
from caravan.bus import BackgroundTask
from caravan.concurrency import raise_if_cancelled
from caravan.telemetry import log
from caravan.telemetry.metrics import TASK_FAILURES

_STABLE_SECONDS = 60.0
"""Work that ran so long before it failed is as good as new: its earlier failures no longer lengthen the pause."""


async def supervise_task(name: str, run: BackgroundTask, is_stopping: Callable[[], bool]) -> None:
    """Run `run` until it returns. When it raises it starts again after a pause, because half a service (one that
    accepts and no longer sends) is worse than a late one. Raises what it raised once `is_stopping` says so.
    """
    loop = asyncio.get_running_loop()
    failures_counter = TASK_FAILURES.labels(name)
    failures = 0
    while True:
        started_at = loop.time()
        try:
            await run()
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise_if_cancelled(error)
            log.critical("task failed", task=name, exc_info=error)
            failures_counter.inc()
            if is_stopping():
                raise
            failures = 1 if loop.time() - started_at > _STABLE_SECONDS else failures + 1
            await asyncio.sleep(compute_backoff(failures))
