"""How often a process counts what waits: that takes statements, and several requests for each subscription, which a
process at rest need not send.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from caravan.bus import Subscription
from caravan.clock import utc_now
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

    reachable: Mapping[str, bool] = {}

    async def count_dead_letters(self, _: Sequence[Subscription]) -> dict[str, int]:
        return {}

    async def measure_lag(self, _: Sequence[Subscription]) -> dict[str, int]:
        self.reads += 1
        return {"reader": self.waiting}

    async def update_gauges(self) -> None:
        self.measured += 1

    async def ticked(self, times: int) -> bool:
        return self.ticks >= times

    async def looked(self, times: int) -> bool:
        return self.reads >= times


class Gauges:
    """Of the backends: none is asked anything here."""

    def __init__(self, database: Sampled) -> None:
        self.databases = {"one": database}

    def update_pools(self) -> None: ...

    def update_checks(self, *_: object) -> None: ...

    async def ask_backends(self) -> None: ...


async def is_ready() -> dict[str, str]:
    return {}


@asynccontextmanager
async def sampled(waiting: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sampled]:
    monkeypatch.setattr(sampling, "SAMPLE_SECONDS", 0.001)
    found = Sampled(waiting)
    gauges = Gauges(found)
    sampler = sampling.Sampler(cast(Any, found), [], [], cast(Any, found), cast(Any, gauges), is_ready, utc_now)
    task = asyncio.create_task(sampler.run())
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


NOON = datetime.fromisoformat("2026-01-05T12:00:00+00:00")


def seconds_later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_a_wait_counts_from_the_last_moment_at_which_nothing_waited() -> None:
    estimate = sampling.WaitEstimate(NOON)
    assert estimate.update(0, None, seconds_later(100)) == 0
    assert [estimate.update(count, None, seconds_later(at)) for count, at in ((1, 105), (1, 110), (9, 160))] == [
        5,
        10,
        60,
    ]
    assert estimate.update(0, None, seconds_later(200)) == 0


def test_of_a_queue_that_is_never_empty_a_wait_counts_from_what_was_handled_last() -> None:
    estimate = sampling.WaitEstimate(NOON)
    assert estimate.update(50, seconds_later(90), seconds_later(100)) == 10
    assert estimate.update(70, seconds_later(150), seconds_later(400)) == 250


def test_a_replica_that_reads_nothing_itself_sees_that_another_does() -> None:
    estimate = sampling.WaitEstimate(NOON)
    assert estimate.update(50, None, seconds_later(10)) == 10
    assert estimate.update(49, None, seconds_later(20)) == 0
    assert estimate.update(80, None, seconds_later(30)) == 10
