"""Readers of one entry: who computes, who waits, and what an invalidation does to both."""

import asyncio
import sys

import pytest
from redis.asyncio import Redis

from caravan.cache import Fill, SharedCache, shared
from caravan.cache.declarations import CachedAnswer
from caravan.runtime import Backends
from tests.caravan.cache.conftest import LAMP, LAMPS, Source, open_cache
from tests.support.shop import wait_until


async def wait_for_reads(source: Source, number: int) -> None:
    async def has_begun() -> bool:
        return source.reads >= number

    await wait_until(has_begun)


async def test_the_second_reader_gets_the_entry_of_the_first(cache: SharedCache, source: Source) -> None:
    first = await cache.read(LAMPS, "a", source.compute())
    second = await cache.read(LAMPS, "a", source.compute())
    assert (first.value, first.result, first.seconds_left) == (b'"first"', "miss", None)
    assert (second.value, second.result, source.reads) == (b'"first"', "hit", 1)
    assert second.seconds_left is not None
    assert LAMPS.seconds * 0.79 < second.seconds_left <= LAMPS.seconds


async def test_an_invalidation_voids_the_entries_with_the_tag_and_no_others(cache: SharedCache) -> None:
    one, other = Source(), Source()
    await cache.read(LAMPS, "a", one.compute(LAMP("a"), LAMP("both")))
    await cache.read(LAMPS, "b", other.compute(LAMP("b"), LAMP("both")))
    await cache.invalidate([LAMP("a")])
    one.value = b'"second"'
    assert (await cache.read(LAMPS, "a", one.compute(LAMP("a"), LAMP("both")))).value == b'"second"'
    assert (await cache.read(LAMPS, "b", other.compute())).result == "hit"
    await cache.invalidate([LAMP("both")])
    assert (await cache.read(LAMPS, "a", one.compute())).result == "miss"
    assert (await cache.read(LAMPS, "b", other.compute())).result == "miss"


async def test_that_there_is_nothing_is_kept_for_a_short_time(cache: SharedCache, redis: Redis) -> None:
    async def find_nothing() -> Fill:
        return Fill(None, frozenset({LAMP("a")}))

    await cache.read(LAMPS, "a", find_nothing)
    answer = await cache.read(LAMPS, "a", find_nothing)
    assert (answer.value, answer.result) == (None, "hit")
    assert 0 < await redis.pttl(LAMPS.build_entry_key("a")) <= LAMPS.negative_seconds * 1000


async def test_a_value_over_the_limit_is_answered_and_not_kept(cache: SharedCache, source: Source) -> None:
    source.value = b"x" * (LAMPS.max_bytes + 1)
    assert len((await cache.read(LAMPS, "a", source.compute())).value or b"") == LAMPS.max_bytes + 1
    assert (await cache.read(LAMPS, "a", source.compute())).result == "miss"


async def test_500_readers_of_two_caches_cause_one_computation(
    cache: SharedCache, servers: Backends, source: Source
) -> None:
    source.seconds = 0.3
    async with open_cache(servers.redis_url) as other:
        answers = await asyncio.gather(
            *(each.read(LAMPS, "cold", source.compute()) for _ in range(250) for each in (cache, other))
        )
    assert source.reads == 1
    assert {answer.value for answer in answers} == {b'"first"'}
    assert sorted({answer.result for answer in answers}) == ["collapsed", "miss"]


async def test_when_the_one_who_computes_is_killed_one_other_does(
    cache: SharedCache, redis: Redis, servers: Backends, source: Source
) -> None:
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.caravan.cache.killed_reader", servers.redis_url
    )

    async def has_begun() -> bool:
        return await redis.get("computations") == b"1"

    await wait_until(has_begun, seconds=60)
    loop = asyncio.get_running_loop()
    async with open_cache(servers.redis_url) as other:
        began_at = loop.time()
        reads = [
            asyncio.create_task(each.read(LAMPS, "cold", source.compute()))
            for _ in range(250)
            for each in (cache, other)
        ]
        killed.kill()
        await killed.wait()
        answers = await asyncio.gather(*reads)
    assert source.reads == 1, "and the one that was killed: two in all"
    assert {answer.value for answer in answers} == {b'"first"'}
    assert loop.time() - began_at < LAMPS.lease_seconds + 1.0, "nobody waits longer than the lease"


async def test_a_computation_that_began_before_an_invalidation_is_not_kept(cache: SharedCache, source: Source) -> None:
    source.seconds = 0.2
    early = asyncio.create_task(cache.read(LAMPS, "a", source.compute()))
    await wait_for_reads(source, 1)
    source.value = b'"second"'
    await cache.invalidate([LAMP("a")])
    late = asyncio.create_task(cache.read(LAMPS, "a", source.compute()))
    assert (await early).value == b'"first"', "asked before the change"
    assert (await late).value == b'"second"', "waited for the early one, and was not given its answer"
    assert (await cache.read(LAMPS, "a", source.compute())).value == b'"second"'


async def test_whoever_waits_in_this_process_gets_the_failure_too(cache: SharedCache, source: Source) -> None:
    source.seconds, source.error = 0.1, LookupError("no source")
    answers = await asyncio.gather(
        *(cache.read(LAMPS, "a", source.compute()) for _ in range(50)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {LookupError}
    assert source.reads == 1
    source.error = None
    assert (await cache.read(LAMPS, "a", source.compute())).result == "miss", "the lease went with the failure"


async def test_the_others_are_served_when_the_one_who_computes_is_cancelled(cache: SharedCache, source: Source) -> None:
    source.seconds = 0.2
    first = asyncio.create_task(cache.read(LAMPS, "a", source.compute()))
    await wait_for_reads(source, 1)
    others = [asyncio.create_task(cache.read(LAMPS, "a", source.compute())) for _ in range(3)]
    await asyncio.sleep(0.05)
    first.cancel()
    assert {(await other).value for other in others} == {b'"first"'}
    assert source.reads == 1


async def test_an_entry_is_refreshed_before_its_end_and_served_meanwhile(
    cache: SharedCache, redis: Redis, source: Source
) -> None:
    await cache.read(LAMPS, "a", source.compute())
    await redis.hset(LAMPS.build_entry_key("a"), "refresh_at", "0")
    source.value, source.seconds = b'"second"', 0.1
    answers = [await cache.read(LAMPS, "a", source.compute()) for _ in range(5)]
    assert {(answer.value, answer.result) for answer in answers} == {(b'"first"', "stale")}

    async def read_fresh_entry() -> CachedAnswer | None:
        answer = await cache.read(LAMPS, "a", source.compute())
        return answer if answer.result == "hit" else None

    answer = await wait_until(read_fresh_entry)
    assert (answer.value, answer.result, source.reads) == (b'"second"', "hit", 2)


@pytest.mark.parametrize("is_flushed", [True, False])
async def test_nothing_from_before_a_restart_of_redis_is_served(
    cache: SharedCache, redis: Redis, source: Source, is_flushed: bool
) -> None:
    """Its file may hold the entry without the last second of invalidations."""
    await cache.read(LAMPS, "a", source.compute())
    await (redis.flushall() if is_flushed else redis.script_flush())
    assert (await cache.read(LAMPS, "a", source.compute())).result == "miss"
    assert (await cache.read(LAMPS, "a", source.compute())).result == "hit"


async def test_a_computation_from_before_a_restart_is_not_kept(
    cache: SharedCache, redis: Redis, source: Source
) -> None:
    source.seconds = 0.2
    reader = asyncio.create_task(cache.read(LAMPS, "a", source.compute()))
    await wait_for_reads(source, 1)
    await redis.script_flush()
    await reader
    assert (await cache.read(LAMPS, "a", source.compute())).result == "miss"


async def test_an_entry_without_the_stamp_of_a_tag_is_not_served(
    cache: SharedCache, redis: Redis, source: Source
) -> None:
    """Redis may evict it."""
    await cache.read(LAMPS, "a", source.compute())
    assert await redis.delete("cache:tag:lamp:a") == 1
    assert (await cache.read(LAMPS, "a", source.compute())).result == "miss"
    assert (await cache.read(LAMPS, "a", source.compute())).result == "hit"


async def test_without_redis_every_answer_is_right_and_what_was_invalidated_is_delivered_later(
    cache: SharedCache, servers: Backends, source: Source
) -> None:
    await cache.read(LAMPS, "a", source.compute())
    async with Redis.from_url("redis://127.0.0.1:1") as nowhere:
        healthy, cache._server._redis = cache._server._redis, nowhere
        assert (await cache.read(LAMPS, "a", source.compute())).result == "bypass"
        source.value = b'"second"'
        await cache.invalidate([LAMP("a")])
        assert (await cache.read(LAMPS, "a", source.compute())).value == b'"second"'
        cache._server._redis = healthy
    async with open_cache(servers.redis_url) as other:
        assert (await other.read(LAMPS, "a", source.compute())).value == b'"first"', "not delivered yet"

        async def is_recovered() -> bool:
            return cache._recovery is None

        await wait_until(is_recovered)
        assert (await other.read(LAMPS, "a", source.compute())).value == b'"second"'
    assert (await cache.read(LAMPS, "a", source.compute())).result == "hit"


async def test_without_redis_readers_of_a_moment_share_computations(cache: SharedCache, source: Source) -> None:
    source.seconds = 0.05
    async with Redis.from_url("redis://127.0.0.1:1") as nowhere:
        cache._server._redis = nowhere
        answers = await asyncio.gather(*(cache.read(LAMPS, "a", source.compute()) for _ in range(500)))
        assert {answer.result for answer in answers} == {"bypass"}
        assert source.reads <= 2
        await cache.close()


async def test_with_too_many_invalidations_to_deliver_everything_is_void(
    cache: SharedCache, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "MAX_PENDING_TAGS", 2)
    await cache.read(LAMPS, "a", source.compute())
    async with Redis.from_url("redis://127.0.0.1:1") as nowhere:
        healthy, cache._server._redis = cache._server._redis, nowhere
        await cache.invalidate([LAMP(name) for name in ("x", "y", "z")])
        assert cache._pending_tags == set()
        cache._server._redis = healthy

    async def is_available() -> bool:
        return cache._recovery is None

    await wait_until(is_available)
    assert (await cache.read(LAMPS, "a", source.compute())).result == "miss"


async def test_a_cache_that_is_turned_off_reads_nothing_and_still_invalidates(
    cache: SharedCache, redis: Redis, source: Source
) -> None:
    off = SharedCache(redis, cache._changes, is_enabled=False)
    await cache.read(LAMPS, "a", source.compute())
    assert (await off.read(LAMPS, "a", source.compute())).result == "bypass"
    await off.invalidate([LAMP("a")])
    assert (await cache.read(LAMPS, "a", source.compute())).result == "miss"
