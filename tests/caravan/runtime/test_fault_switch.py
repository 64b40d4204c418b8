"""What is switched in Redis is on in each process that allows it, until its time is over."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from caravan import fault_flags
from caravan.errors import InvalidRequest
from caravan.fault_flags import DATABASE_SLOW, OUTBOX_BLOCKED
from caravan.jobs import JobStore
from caravan.runtime import Backends
from caravan.runtime.fault_switch import follow_switch, list_faults, switch_off, switch_on
from tests.support.shop import wait_until

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
async def store(backends: Backends) -> AsyncIterator[JobStore]:
    store = JobStore(backends.jobs_redis_url or backends.redis_url)
    yield store
    await switch_off(store, [])
    await store.close()
    fault_flags.switch(())


async def wait_for_faults(names: set[str]) -> None:
    async def are_on() -> bool:
        return fault_flags.active == names

    await wait_until(are_on)


async def test_a_process_follows_the_switch_until_the_time_is_over(store: JobStore) -> None:
    now = [NOW]
    following = asyncio.create_task(follow_switch(store, lambda: now[0], is_allowed=True))
    try:
        await switch_on(store, DATABASE_SLOW, timedelta(minutes=5), NOW)
        await switch_on(store, OUTBOX_BLOCKED, timedelta(minutes=15), NOW)
        await wait_for_faults({DATABASE_SLOW, OUTBOX_BLOCKED})
        now[0] += timedelta(minutes=6)
        await wait_for_faults({OUTBOX_BLOCKED})
        await switch_off(store, [OUTBOX_BLOCKED])
        await wait_for_faults(set())
    finally:
        following.cancel()


async def test_a_process_that_does_not_allow_faults_has_none(store: JobStore) -> None:
    await switch_on(store, DATABASE_SLOW, timedelta(minutes=5), NOW)
    await follow_switch(store, lambda: NOW, is_allowed=False)
    assert not fault_flags.active


async def test_what_ends_and_what_there_is_not(store: JobStore) -> None:
    assert await switch_on(store, DATABASE_SLOW, timedelta(minutes=5), NOW) == NOW + timedelta(minutes=5)
    assert await list_faults(store, NOW) == {DATABASE_SLOW: NOW + timedelta(minutes=5)}
    assert await list_faults(store, NOW + timedelta(minutes=5)) == {}
    for flag in ("outbox-blocked:orders", "outbox-blocked:payments"):
        await switch_on(store, flag, timedelta(minutes=5), NOW)
    await switch_off(store, [OUTBOX_BLOCKED])
    assert await list_faults(store, NOW) == {DATABASE_SLOW: NOW + timedelta(minutes=5)}, "with all its targets"
    with pytest.raises(InvalidRequest, match=r"no fault database-fast; there are database-slow"):
        await switch_on(store, "database-fast", timedelta(minutes=5), NOW)
    await switch_off(store, [])
    assert await list_faults(store, NOW) == {}
