"""Tasks of one process: bounded, loaded together, and ended for sure."""

import asyncio
from collections.abc import Mapping

import pytest

from caravan.concurrency import DataLoader, end_tasks, map_concurrently, raise_if_cancelled


async def test_results_come_in_the_order_of_the_items_and_no_more_than_the_limit_run_at_once() -> None:
    running, most = 0, 0

    async def double(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (5 - item))
        running -= 1
        return 2 * item

    assert await map_concurrently(double, range(5), 2) == [0, 2, 4, 6, 8]
    assert most == 2


async def test_the_first_failure_ends_all() -> None:
    ended: list[int] = []

    async def fail_at_two(item: int) -> None:
        if item == 2:
            raise RuntimeError("no")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(item)

    with pytest.raises(RuntimeError, match="no"):
        await map_concurrently(fail_at_two, range(3), 3)
    assert sorted(ended) == [0, 1]


async def test_a_failure_keeps_what_it_came_from() -> None:
    async def fail(wrap: bool) -> None:
        try:
            raise OSError("the connection broke")
        except OSError as error:
            if wrap:
                raise RuntimeError("no answer") from error
            raise RuntimeError("no answer")  # noqa: B904 -- the context is what is tested

    with pytest.raises(RuntimeError) as wrapped:
        await map_concurrently(fail, [True], 1)
    assert isinstance(wrapped.value.__cause__, OSError)
    with pytest.raises(RuntimeError) as plain:
        await map_concurrently(fail, [False], 1)
    assert isinstance(plain.value.__context__, OSError)


async def test_a_task_that_loses_its_first_cancellation_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caravan.concurrency.END_AGAIN_SECONDS", 0.01)
    cancellations = 0

    async def lose_the_first() -> None:
        nonlocal cancellations
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancellations += 1
                if cancellations == 2:
                    raise

    task = asyncio.create_task(lose_the_first())
    await asyncio.sleep(0)
    await end_tasks([task])
    assert task.cancelled()
    assert cancellations == 2


async def test_an_error_that_hides_a_cancellation_is_told_as_one() -> None:
    async def hide() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise_if_cancelled(ConnectionError("the client's own"))

    task = asyncio.create_task(hide())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    raise_if_cancelled(ConnectionError("nobody was cancelled"))


async def test_keys_that_are_asked_for_during_a_query_are_asked_for_together() -> None:
    queries: list[list[str]] = []

    async def fetch(keys: list[str]) -> Mapping[str, str]:
        queries.append(keys)
        await asyncio.sleep(0.001)
        return {key: key.upper() for key in keys if key != "unknown"}

    loader: DataLoader[str, str] = DataLoader(fetch)
    first = asyncio.create_task(loader.load_many(["a"]))
    while not queries:
        await asyncio.sleep(0)
    rest = await asyncio.gather(loader.load_many(["b", "unknown"]), loader.load_many(["c", "b"]))
    assert [await first, *rest] == [["A"], ["B"], ["C", "B"]]
    assert queries == [["a"], ["b", "unknown", "c"]]


async def test_a_query_that_fails_fails_its_askers_and_nobody_after_them() -> None:
    failures = [RuntimeError("no")]

    async def fetch(keys: list[int]) -> Mapping[int, int]:
        if failures:
            raise failures.pop()
        return {key: key for key in keys}

    loader: DataLoader[int, int] = DataLoader(fetch)
    with pytest.raises(RuntimeError, match="no"):
        await loader.load_many([1])
    assert await loader.load_many([1]) == [1]
