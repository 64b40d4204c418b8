"""What runs as long as the process: an accident of any kind ends neither it nor, silently, the service's work."""

import asyncio

import pytest

from caravan.runtime.supervisor import supervise_task
from caravan.telemetry import TASK_FAILURES


class Accidents:
    """Work that fails so often, then does it."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.runs = 0

    async def work(self) -> None:
        self.runs += 1
        if self.failures:
            raise self.failures.pop(0)


async def test_work_that_failed_starts_again_and_is_counted() -> None:
    accidents = Accidents(ZeroDivisionError(), StopAsyncIteration())
    await asyncio.wait_for(supervise_task("accident", accidents.work, lambda: False), 10)
    assert accidents.runs == 3
    assert TASK_FAILURES.labels("accident")._value.get() == 2


async def test_a_process_that_stops_does_not_start_it_again() -> None:
    accidents = Accidents(ZeroDivisionError(), ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await supervise_task("stopping", accidents.work, lambda: True)
    assert accidents.runs == 1


async def test_it_can_be_cancelled() -> None:
    task = asyncio.create_task(supervise_task("waiting", asyncio.Event().wait, lambda: False))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
