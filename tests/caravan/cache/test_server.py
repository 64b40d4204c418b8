"""The script: leases, stamps and moments, operation by operation."""

from typing import Any

import pytest
from redis.asyncio import Redis

from caravan.cache import server
from caravan.cache.declarations import MAX_LEASE_SECONDS
from caravan.cache.server import FENCE_SECONDS, META, CacheServer, CacheUnavailable, EntryState
from tests.support.faults import switch_faults
from tests.support.shop import wait_until

KEY = "cache:shop.lamps:1:a"


@pytest.fixture
def cache_server(redis: Redis) -> CacheServer:
    return CacheServer(redis)


async def read(cache_server: CacheServer, key: str = KEY, lease_seconds: float = 1.0) -> EntryState:
    request = (key, lease_seconds)
    return (await cache_server.read_entries([request]))[request]


async def store(cache_server: CacheServer, state: EntryState, *tags: str, seconds: float = 60.0) -> str:
    assert state.lease is not None
    return await cache_server.store_entry(KEY, state.lease, b"1", tags, seconds)


async def test_one_reader_gets_the_lease_and_the_next_waits(cache_server: CacheServer) -> None:
    first, second = await read(cache_server), await read(cache_server)
    assert (first.state, first.take_lease() is not None, first.take_lease()) == ("miss", True, None)
    assert (second.state, second.lease) == ("wait", None)
    assert 0 < second.seconds_left <= 1


async def test_a_lease_ends_and_who_had_it_can_no_longer_store(cache_server: CacheServer) -> None:
    late = await read(cache_server, lease_seconds=0.05)

    async def is_leased_anew() -> bool:
        return (await read(cache_server)).state == "miss"

    await wait_until(is_leased_anew)
    assert await store(cache_server, late, "a") == "lost"


async def test_a_released_lease_is_there_for_the_next(cache_server: CacheServer) -> None:
    state = await read(cache_server)
    assert state.lease
    await cache_server.release_lease(KEY, state.lease)
    assert (await read(cache_server)).state == "miss"


async def test_entries_of_one_batch_are_read_together(cache_server: CacheServer) -> None:
    state = await read(cache_server)
    assert await store(cache_server, state, "a", "b") == "stored"
    found = await cache_server.read_entries([(KEY, 1.0), (KEY + "other", 1.0)])
    assert [entry.state for entry in found.values()] == ["hit", "miss"]
    assert found[KEY, 1.0].value == b"1"


async def test_only_an_invalidation_after_the_beginning_fences_a_computation(cache_server: CacheServer) -> None:
    await cache_server.invalidate_tags(["a"])
    assert await store(cache_server, await read(cache_server), "a") == "stored"
    await cache_server.invalidate_tags(["a"])
    state = await read(cache_server)
    await cache_server.invalidate_tags(["a"])
    assert await store(cache_server, state, "a") == "fenced"
    assert (await read(cache_server)).state == "miss", "the lease ended with the computation"


async def test_moments_rise_when_the_clock_of_redis_is_set_back(cache_server: CacheServer, redis: Redis) -> None:
    """As after ten minutes in the wrong direction: an invalidation is still later than the entry."""
    await read(cache_server, "cache:shop.lamps:1:other")
    ahead = int(await redis.hget(META, "clock") or 0) + 600_000_000
    await redis.hset(META, "clock", str(ahead))
    assert await store(cache_server, await read(cache_server), "a") == "stored"
    assert (await read(cache_server)).state == "hit"
    await cache_server.invalidate_tags(["a"])
    assert (await read(cache_server)).state == "miss"
    assert int(await redis.hget(META, "clock") or 0) == ahead + 3


async def test_every_stamp_outlives_the_entry(cache_server: CacheServer, redis: Redis) -> None:
    await cache_server.invalidate_tags(["old"])
    await redis.pexpire("cache:tag:old", 1000)
    assert await store(cache_server, await read(cache_server), "old", "new") == "stored"
    life = await redis.pttl(KEY)
    assert 0 < life <= 60_000
    for tag in ("old", "new"):
        assert await redis.pttl(f"cache:tag:{tag}") > life


async def test_a_stamp_that_no_entry_holds_is_kept_for_computations_under_way(
    cache_server: CacheServer, redis: Redis
) -> None:
    await cache_server.invalidate_tags(["a"])
    assert MAX_LEASE_SECONDS < await redis.ttl("cache:tag:a") <= FENCE_SECONDS
    await store(cache_server, await read(cache_server), "a", seconds=1000)
    await cache_server.invalidate_tags(["a"])
    assert await redis.ttl("cache:tag:a") > 800, "not shortened: the entry is still there, and must stay void"


async def test_all_entries_can_be_voided_at_once(cache_server: CacheServer) -> None:
    await store(cache_server, await read(cache_server), "a")
    state = await read(cache_server, KEY + "other")
    await cache_server.void_all()
    assert (await read(cache_server)).state == "miss"
    assert state.lease
    assert await cache_server.store_entry(KEY + "other", state.lease, b"1", ["a"], 60) == "lost"


async def test_an_entry_and_a_lease_that_come_back_with_the_server_count_for_nothing(
    cache_server: CacheServer, redis: Redis
) -> None:
    """The file of a server that was killed may end before an invalidation that it had answered."""
    state = await read(cache_server)
    kept = {key: await redis.dump(key) or b"" for key in await redis.keys("cache:*")}
    await cache_server.invalidate_tags(["a"])
    await redis.flushall()
    for key, content in kept.items():
        await redis.restore(key, 0, content)
    await redis.script_flush()
    assert await store(cache_server, state, "a") == "lost"
    assert (await read(cache_server)).state == "miss"


async def test_an_invalidation_writes_one_key_for_a_tag_whoever_holds_it(
    cache_server: CacheServer, redis: Redis
) -> None:
    for index in range(50):
        key = f"{KEY}{index}"
        state = await read(cache_server, key)
        assert state.lease
        await cache_server.store_entry(key, state.lease, b"1", ["shared", str(index)], 60)

    async def count_calls() -> dict[str, int]:
        commands: dict[str, Any] = await redis.info("commandstats")
        return {name: numbers["calls"] for name, numbers in commands.items() if name != "cmdstat_info"}

    before = await count_calls()
    await cache_server.invalidate_tags(["shared"])
    after = await count_calls()
    calls = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert calls == {
        f"cmdstat_{name}": number
        for name, number in {"evalsha": 1, "hget": 2, "time": 1, "hset": 1, "set": 1, "pttl": 1}.items()
    }
    assert (await read(cache_server, f"{KEY}7")).state == "miss"


async def test_a_server_that_does_not_answer_in_time_is_unavailable(
    cache_server: CacheServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TIMEOUT_SECONDS", 0.1)
    await redis.client_pause(300)
    with pytest.raises(CacheUnavailable):
        await read(cache_server)
    await redis.client_unpause()


async def test_a_fault_makes_the_cache_unavailable(cache_server: CacheServer) -> None:
    with switch_faults("cache-unavailable"), pytest.raises(CacheUnavailable, match="the fault cache-unavailable is on"):
        await read(cache_server)
    assert (await read(cache_server)).state == "miss"
