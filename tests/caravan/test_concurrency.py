import asyncio

import pytest

from caravan.concurrency import map_concurrently


async def test_results_come_in_the_order_of_the_items_and_no_more_than_the_limit_are_under_way() -> None:
    running: set[int] = set()
    done: list[None] = []

    async def double(item: int) -> int:
        running.add(item)
        assert len(running) <= 2
        await asyncio.sleep(0.001 * (5 - item))
        running.discard(item)
        return 2 * item

    assert await map_concurrently(double, range(5), 2, on_done=lambda: done.append(None)) == [0, 2, 4, 6, 8]
    assert len(done) == 5


async def test_the_first_failure_ends_the_others() -> None:
    cancelled = asyncio.Event()

    async def fail_or_wait(item: int) -> None:
        if item == 1:
            raise ValueError("refused")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(ExceptionGroup) as failure:
        await map_concurrently(fail_or_wait, range(3), 3)
    assert failure.group_contains(ValueError, match="refused")
    assert cancelled.is_set()
