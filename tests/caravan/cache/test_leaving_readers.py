"""Readers and writers of the cache who are cancelled, or have little time left."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from caravan.cache import Fill, SharedCache
from caravan.cache.server import EntryState
from caravan.client import authorization, deadline
from tests.caravan.cache.conftest import LAMP, LAMPS, Source
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


async def test_an_invalidation_outlives_whoever_asked_for_it(
    cache: SharedCache, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that goes away after its change was committed has its task cancelled."""
    await cache.read(LAMPS, "a", source.compute())
    invalidate_tags, has_begun = cache._server.invalidate_tags, asyncio.Event()

    async def hang(tags: Collection[str]) -> None:
        has_begun.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(cache._server, "invalidate_tags", hang)
    source.value = b'"second"'
    cancelled = asyncio.create_task(cache.invalidate([LAMP("a")]))
    await has_begun.wait()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    monkeypatch.setattr(cache._server, "invalidate_tags", invalidate_tags)
    assert (await cache.read(LAMPS, "a", source.compute())).value == b'"second"'

    async def is_available() -> bool:
        return cache._recovery is None

    await wait_until(is_available)
    answer = await cache.read(LAMPS, "a", source.compute())
    assert (answer.value, answer.result) == (b'"second"', "miss")


async def test_nobody_waits_for_one_who_was_cancelled_before_the_cache_answered(
    cache: SharedCache, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_entries, has_answered = cache._server.read_entries, asyncio.Event()

    async def read_slowly(requests: Sequence[tuple[str, float]]) -> dict[tuple[str, float], EntryState]:
        entries = await read_entries(requests)
        has_answered.set()
        await asyncio.sleep(0.05)
        return entries

    lamps = replace(LAMPS, lease_seconds=30.0)
    monkeypatch.setattr(cache._server, "read_entries", read_slowly)
    cancelled = asyncio.create_task(cache.read(lamps, "a", source.compute()))
    await has_answered.wait()
    cancelled.cancel()
    monkeypatch.setattr(cache._server, "read_entries", read_entries)
    async with asyncio.timeout(10):
        assert (await cache.read(lamps, "a", source.compute())).result == "miss"
    assert source.reads == 1
