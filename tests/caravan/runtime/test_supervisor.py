"""What runs as long as the process: an accident of any kind ends neither it nor, silently, the service's work."""

import asyncio
import contextlib

import pytest

from caravan import concurrency
from caravan.runtime.supervisor import supervise_task
from caravan.telemetry.metrics import TASK_FAILURES


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


async def test_a_cancellation_that_a_client_answers_with_another_error_ends_it() -> None:
    """aiormq raises the channel's error when it closes in the moment of the cancellation."""

    async def answer_with_an_error() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the channel was closed") from None

    task = asyncio.create_task(supervise_task("cancelled", answer_with_an_error, lambda: False))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert TASK_FAILURES.labels("cancelled")._value.get() == 0


async def test_tasks_end_also_when_the_first_cancellation_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "END_AGAIN_SECONDS", 0.01)

    async def lose_the_first() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(lose_the_first())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await concurrency.end_tasks([task])
    assert task.cancelled()
