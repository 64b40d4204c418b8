"""How often a process counts what waits: that takes statements, and several requests for each subscription, which a
process at rest need not send.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from caravan.bus import Subscription
from caravan.runtime import sampling
from tests.support.shop import wait_until

LONG_AGO = -3600.0


class Sampled:
    """A bus on which so many messages wait, the workers, and a database that is looked at each time."""

    def __init__(self, waiting: int) -> None:
        self.waiting, self.reads, self.measured, self.ticks = waiting, 0, 0, 0
        self.last_work = time.monotonic() + LONG_AGO

    @property
    def last_active_at(self) -> float:
        self.ticks += 1
        return self.last_work

    async def measure_lag(self, _: Sequence[Subscription]) -> dict[str, int]:
        self.reads += 1
        return {"reader": self.waiting}

    async def update_gauges(self) -> None:
        self.measured += 1

    async def ticked(self, times: int) -> bool:
        return self.ticks >= times

    async def looked(self, times: int) -> bool:
        return self.reads >= times


@asynccontextmanager
async def sampled(waiting: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sampled]:
    monkeypatch.setattr(sampling, "SAMPLE_SECONDS", 0.001)
    found = Sampled(waiting)
    task = asyncio.create_task(sampling.sample_metrics(cast(Any, found), [], [cast(Any, found)], [], cast(Any, found)))
    try:
        await wait_until(lambda: found.ticked(20))
        yield found
    finally:
        task.cancel()


async def test_at_rest_messages_are_counted_seldom_and_again_when_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sampled(0, monkeypatch) as found:
        assert (found.reads, found.measured) == (1, 1)
        found.last_work = time.monotonic() + 3600
        await wait_until(lambda: found.looked(5))


async def test_while_messages_wait_they_are_counted_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sampled(3, monkeypatch) as found:
        assert found.reads >= 19
