"""How far a rebuild is, while it runs, when it has ended, when it was killed, and without Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from caravan.clock import new_id, utc_now
from caravan.runtime import Backends
from caravan.status import find_rebuilds, record_rebuild
from caravan.status.rebuilds import RUNNING_SECONDS
from tests.support.shop import wait_until


@pytest.fixture
async def redis(backends: Backends) -> AsyncIterator[Redis]:
    async with Redis.from_url(backends.redis_url) as redis:
        yield redis


async def test_it_is_seen_while_it_runs_and_when_it_has_ended(backends: Backends, redis: Redis) -> None:
    name = f"facts-{new_id()}"
    async with record_rebuild(name, backends.redis_url, utc_now) as recorder:
        recorder.events = 500

        async def is_seen() -> bool:
            found = await find_rebuilds(redis, ["another", name])
            return name in found and found[name].state == "running"

        await wait_until(is_seen)
        assert 0 < await redis.ttl(f"rebuild:{name}") <= RUNNING_SECONDS, "nobody shows one for ever that was killed"
        recorder.events, recorder.state = 800, "replaced"
    ended = (await find_rebuilds(redis, [name]))[name]
    assert (ended.state, ended.events) == ("replaced", 800)
    assert ended.ended_at is not None and ended.ended_at >= ended.started_at


async def test_one_that_raises_has_failed(backends: Backends, redis: Redis) -> None:
    name = f"facts-{new_id()}"
    with pytest.raises(ZeroDivisionError):
        async with record_rebuild(name, backends.redis_url, utc_now):
            raise ZeroDivisionError
    assert (await find_rebuilds(redis, [name]))[name].state == "failed"


async def test_it_goes_on_without_redis() -> None:
    async with asyncio.timeout(10):
        async with record_rebuild("facts", "redis://127.0.0.1:1/0", utc_now) as recorder:
            recorder.state = "identical"


async def test_what_another_version_wrote_is_left_out(redis: Redis) -> None:
    name = f"facts-{new_id()}"
    await redis.set(f"rebuild:{name}", b'{"state": "dreaming"}', ex=60)
    assert await find_rebuilds(redis, [name]) == {}
    assert await find_rebuilds(redis, []) == {}
