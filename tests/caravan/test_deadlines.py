"""A deadline holds, and takes no cancellation of others for its own."""

import asyncio

import pytest

from caravan import deadlines
from caravan.deadlines import Deadline


async def test_what_takes_longer_ends_with_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with Deadline(0.01):
            await asyncio.sleep(60)


async def test_what_ends_in_time_is_left_alone() -> None:
    async with Deadline(60) as deadline:
        await asyncio.sleep(0)
    assert not deadline.has_passed


async def test_what_goes_on_waiting_after_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_CANCEL_AGAIN_SECONDS", 0.01)
    lost_cancellations: list[asyncio.CancelledError] = []

    async def lose_the_first() -> None:
        async with Deadline(0.01):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError as cancelled:
                lost_cancellations.append(cancelled)
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await lose_the_first()
    assert len(lost_cancellations) == 1


async def test_a_deadline_that_is_cleared_never_passes() -> None:
    async with Deadline(0.01) as deadline:
        deadline.clear_deadline()
        await asyncio.sleep(0.03)
    assert not deadline.has_passed


async def test_a_cancellation_from_outside_is_no_timeout() -> None:
    async def wait() -> None:
        async with Deadline(60):
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
