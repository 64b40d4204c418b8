"""Many requests of a pass at a time, and no more than the API server should get at once."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

T = TypeVar("T")

MAX_CONCURRENCY = 16


async def run_concurrently(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """Await all of them, MAX_CONCURRENCY at a time, each begun when its turn has come; the results in order."""
    pending = enumerate(awaitables)
    results: dict[int, T] = {}

    async def run_worker() -> None:
        for number, each in pending:
            results[number] = await each

    await asyncio.gather(*(run_worker() for _ in range(MAX_CONCURRENCY)))
    return [results[index] for index in sorted(results)]
