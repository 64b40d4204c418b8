"""When a periodic task runs again: with more to do after its linger, and at once when it is nudged at rest."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from caravan.fault_flags import FaultInjected
from caravan.runtime.periodic import run_periodically
from caravan.service import PeriodicTask
from tests.support.faults import switch_faults
from tests.support.shop import wait_until


@asynccontextmanager
async def repeated(linger: float, more: Callable[[int], bool]) -> AsyncIterator[tuple[list[float], asyncio.Event]]:
    """The starts of a task that says whether there is `more` after its nth run, and its nudge."""
    starts: list[float] = []

    async def run(_: Any) -> bool:
        starts.append(time.monotonic())
        return more(len(starts))

    wake_event = asyncio.Event()
    context = cast("Any", SimpleNamespace(service="test", databases={}))
    task = asyncio.create_task(run_periodically(PeriodicTask("test", 3600.0, run, linger), context, wake_event))
    try:
        yield starts, wake_event
    finally:
        task.cancel()


async def has_run(starts: list[float], times: int) -> bool:
    return len(starts) >= times


async def test_with_more_to_do_it_leaves_time_for_more_to_come() -> None:
    async with repeated(0.03, lambda runs: runs < 5) as (starts, _):
        await wait_until(lambda: has_run(starts, 5))
    assert min(later - earlier for earlier, later in pairwise(starts)) >= 0.029


async def test_woken_at_rest_it_runs_at_once() -> None:
    async with repeated(3600.0, lambda runs: False) as (starts, wake_event):
        await wait_until(lambda: has_run(starts, 1))
        wake_event.set()
        await wait_until(lambda: has_run(starts, 2))


async def test_a_fault_ends_the_loop_of_a_task() -> None:
    context = cast("Any", SimpleNamespace(service="test", databases={}))
    task = PeriodicTask("test", 3600.0, cast("Any", None))
    with switch_faults("task-failing:test.test"), pytest.raises(FaultInjected):
        await run_periodically(task, context, asyncio.Event())
