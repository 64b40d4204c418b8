"""Readers and writers of the cache who are cancelled, or have little time left."""

import asyncio

from redis.asyncio import Redis

from caravan.cache import Fill, SharedCache
from caravan.client import authorization, deadline
from tests.caravan.cache.conftest import LAMP, LAMPS
from tests.support.shop import wait_until


async def test_a_computation_has_no_deadline_of_the_reader_who_began_it(cache: SharedCache, redis: Redis) -> None:
    seen: list[tuple[float | None, str | None]] = []

    async def compute() -> Fill:
        seen.append((deadline.get(), authorization.get()))
        return Fill(b"1", frozenset({LAMP("a")}))

    deadline.set(asyncio.get_running_loop().time())
    authorization.set("Bearer of a user")
    assert (await cache.read(LAMPS, "a", compute)).result == "miss"
    await redis.hset(LAMPS.build_entry_key("a"), "refresh_at", "0")
    assert (await cache.read(LAMPS, "a", compute)).result == "stale"
    off = SharedCache(redis, cache._changes, is_enabled=False)
    assert (await off.read(LAMPS, "a", compute)).result == "bypass"

    async def have_ended() -> bool:
        return len(seen) == 3

    await wait_until(have_ended)
    assert set(seen) == {(None, "Bearer of a user")}
