"""Begins to compute an entry and does not end: `python -m tests.caravan.cache.killed_reader <url of Redis>`."""

import asyncio
import sys

from redis.asyncio import Redis

from caravan.cache import Fill
from tests.caravan.cache.conftest import LAMPS, open_cache


async def read_for_ever(url: str) -> None:
    async with Redis.from_url(url) as redis, open_cache(url) as cache:

        async def compute() -> Fill:
            await redis.incr("computations")
            await asyncio.sleep(600)
            raise AssertionError("it should have been killed")

        await cache.read(LAMPS, "cold", compute)


if __name__ == "__main__":
    asyncio.run(read_for_ever(sys.argv[1]))
